from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import ConfigError, FormatError, LonglensError, UnsupportedModelError
from longlens.text.gguf_vocabulary import vocabulary_from_gguf
from longlens.text.tokenizer import Tokenizer
from tests.text.vocabularies import CONTROL, bytes_json, gguf_metadata, glm_json

PREFIX = "tokenizer.ggml."


def metadata(pre: str = "glm4", **changes: object) -> dict[str, Any]:
    """Metadata with a vocabulary of bytes, <s> 256, </s> 257, [PAD] 258 and a run of spaces 259."""
    entries = gguf_metadata(bytes_json(), pre)
    entries[PREFIX + "tokens"] += ("<s>", "</s>", "[PAD]", "   ")
    entries[PREFIX + "token_type"] += (3, 3, 5, 4)
    return entries | {PREFIX + key: value for key, value in changes.items()}


def test_glm_names_three_ends() -> None:
    vocabulary = vocabulary_from_gguf(gguf_metadata(glm_json(), "glm4"))
    control = vocabulary.tokens.control
    assert set(control) == set(CONTROL)
    assert vocabulary.stop_ids == {control[name] for name in ("<|endoftext|>", "<|user|>", "<|observation|>")}
    assert vocabulary.bos_id == control["[gMASK]"]
    assert not vocabulary.adds_bos


def test_ends_of_turns_are_known_by_name_in_files_without_the_keys() -> None:
    entries = metadata()
    entries[PREFIX + "tokens"] += ("<|eot_id|>", "<|im_end|>", "<|call|>")
    entries[PREFIX + "token_type"] += (3, 1, 3)
    assert vocabulary_from_gguf(entries).stop_ids == {260}


def test_an_end_that_the_file_takes_for_text_is_a_control_token_all_the_same() -> None:
    entries = metadata(eos_token_id=257)
    entries[PREFIX + "token_type"] = (1,) * len(entries[PREFIX + "tokens"])
    assert vocabulary_from_gguf(entries).tokens.control == {"</s>": 257}


def test_padding_and_unknown_tokens_are_out_of_reach_of_text() -> None:
    entries = metadata()
    entries[PREFIX + "tokens"] += ("", "unk")
    entries[PREFIX + "token_type"] += (5, 2)
    assert {"[PAD]", "[EMPTY_260]", "unk"} <= vocabulary_from_gguf(entries).tokens.control.keys()


def test_white_space_that_users_defined_is_text() -> None:
    assert vocabulary_from_gguf(metadata()).tokens.blank == {"   ": 259}
    tokenizer = Tokenizer.from_gguf(metadata())
    assert tokenizer.encode("a    b") == [tokenizer.id_of("a"), 259, tokenizer.id_of(" "), tokenizer.id_of("b")]


def test_bos_is_added_where_llama_cpp_adds_it() -> None:
    assert Tokenizer.from_gguf(metadata("llama-bpe", bos_token_id=256)).start_ids == (256,)
    assert Tokenizer.from_gguf(metadata("llama-bpe", bos_token_id=256, add_bos_token=False)).start_ids == ()
    assert Tokenizer.from_gguf(metadata("glm4", bos_token_id=256)).start_ids == ()
    assert Tokenizer.from_gguf(metadata("glm4", bos_token_id=256, add_bos_token=True)).start_ids == (256,)


def test_bos_must_exist_to_be_added() -> None:
    with pytest.raises(ConfigError, match="bos_token_id is missing"):
        vocabulary_from_gguf(metadata("llama-bpe"))


@pytest.mark.parametrize("kind", ["llama", "t5", None, 7])
def test_another_kind_of_tokenizer_is_refused_by_name(kind: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.ggml\.model") as caught:
        vocabulary_from_gguf(metadata(model=kind))
    assert "gpt2" in caught.value.mend


@pytest.mark.parametrize("key", ["tokens", "token_type", "merges"])
def test_a_missing_array_is_named(key: str) -> None:
    entries = metadata()
    del entries[PREFIX + key]
    with pytest.raises(ConfigError, match=rf"tokenizer\.ggml\.{key} is missing"):
        vocabulary_from_gguf(entries)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": ("a", "a")},
        {"tokens": "abc"},
        {"tokens": (1, 2)},
        {"token_type": (1,)},
        {"token_type": ("1",) * 260},
        {"merges": ("ab",)},
        {"merges": ("a  b",)},
        {"merges": (" a",)},
        {"merges": ("a b",)},
    ],
)
def test_arrays_that_contradict_each_other_are_a_format_error(changes: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        vocabulary_from_gguf(metadata(**changes))


@pytest.mark.parametrize("value", [260, -1, "257", True, 1.0])
def test_an_id_out_of_range_is_refused_by_key(value: object) -> None:
    with pytest.raises(ConfigError, match="eot_token_id"):
        vocabulary_from_gguf(metadata(eot_token_id=value))


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=3), st.binary(max_size=3),
    st.lists(st.one_of(st.integers(-3, 300), st.text(max_size=3)), max_size=4),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(metadata(bos_token_id=256, eos_token_id=257))), JUNK, min_size=1))
def test_whatever_the_metadata_say_they_are_read_or_refused(changes: dict[str, object]) -> None:
    refusal = None
    vocab_size = 0
    try:
        vocab_size = Tokenizer.from_gguf(metadata() | changes).vocab_size
    except LonglensError as error:
        refusal = error
    assert vocab_size if refusal is None else refusal.fault and refusal.mend
