from __future__ import annotations

import json

import pytest

from longlens.errors import ConfigError, FormatError, LonglensError, UnsupportedModelError
from longlens.text.json_vocabulary import vocabulary_from_json
from longlens.text.vocabulary import Vocabulary
from tests.text.vocabularies import CONTROL, added_token, bytes_json, glm_json

BEGIN, END, SPACES = added_token(256, "<s>"), added_token(257, "</s>"), added_token(258, "   ", special=False)
ADDED = {"added_tokens": [BEGIN, END, SPACES]}
MODEL = json.loads(bytes_json())["model"]


def read(data: bytes, stop_ids: tuple[int, ...] = (), **config: object) -> Vocabulary:
    return vocabulary_from_json(data, config=config, stop_ids=stop_ids)


def test_every_added_token_is_a_control_token_marked_as_special_or_not() -> None:
    vocabulary = read(glm_json())
    assert set(vocabulary.tokens.control) == set(CONTROL)
    assert "/nothink" not in vocabulary.tokens.ordinary
    assert vocabulary.ignores_merges


def test_added_white_space_that_is_not_special_is_text() -> None:
    tokens = read(bytes_json(**ADDED)).tokens
    assert tokens.blank == {"   ": 258}
    assert tokens.control == {"<s>": 256, "</s>": 257}


def test_ends_come_from_generation_config_and_tokenizer_config() -> None:
    assert read(bytes_json(**ADDED), (256,), eos_token="</s>").stop_ids == {256, 257}
    assert read(bytes_json(**ADDED), eos_token={"content": "</s>", "lstrip": False}).stop_ids == {257}
    assert read(bytes_json(**ADDED), eos_token=None).stop_ids == frozenset()


def test_an_end_among_the_merged_tokens_is_a_control_token() -> None:
    model = MODEL | {"vocab": MODEL["vocab"] | {"</s>": 300}}
    assert read(bytes_json(model=model), (300,)).tokens.control == {"</s>": 300}


def template(*names: str) -> dict[str, object]:
    pieces = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
    return {"type": "TemplateProcessing", "single": [*pieces, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []}


def test_bos_is_added_where_the_post_processor_adds_it() -> None:
    sequence = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template("<s>")]}
    for post_processor in (template("<s>"), sequence):
        vocabulary = read(bytes_json(**ADDED, post_processor=post_processor))
        assert (vocabulary.bos_id, vocabulary.adds_bos) == (256, True)
    without = read(bytes_json(**ADDED, post_processor=template()))
    assert (without.bos_id, without.adds_bos) == (None, False)


def test_tokenizer_config_has_the_last_word_about_bos() -> None:
    assert read(bytes_json(**ADDED), bos_token="<s>", add_bos_token=True).adds_bos
    assert not read(bytes_json(**ADDED, post_processor=template("<s>")), add_bos_token=False).adds_bos
    assert not read(bytes_json(**ADDED), bos_token="<s>").adds_bos


def test_merges_are_read_in_both_spellings() -> None:
    model = MODEL | {"vocab": MODEL["vocab"] | {"ab": 256, "abc": 257}}
    for merges in (["a b", "ab c"], [["a", "b"], ["ab", "c"]]):
        vocabulary = read(bytes_json(model=model | {"merges": merges}))
        assert vocabulary.build().encode("abc").ids == [257]


def test_text_is_normalised_as_the_file_says() -> None:
    vocabulary = read(bytes_json(normalizer={"type": "Lowercase"}))
    assert vocabulary.build().encode("A").ids == [MODEL["vocab"]["a"]]


@pytest.mark.parametrize(
    "data",
    [
        bytes_json(model=MODEL | {"type": "Unigram"}),
        bytes_json(model=MODEL | {"byte_fallback": True}),
        bytes_json(model=MODEL | {"dropout": 0.1}),
        bytes_json(model=MODEL | {"end_of_word_suffix": "</w>"}),
        bytes_json(pre_tokenizer={"type": "Metaspace", "replacement": "_"}),
        bytes_json(pre_tokenizer=None),
        bytes_json(added_tokens=[added_token(256, "<s>", single_word=True)]),
    ],
)
def test_another_kind_of_tokenizer_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.json|the token"):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{}",
        b"[]",
        b"[" * 100_000,
        b"{}",
        bytes_json(model=MODEL | {"vocab": []}),
        bytes_json(model=MODEL | {"vocab": MODEL["vocab"] | {"a": "1"}}),
        bytes_json(model=MODEL | {"merges": ["a b c"]}),
        bytes_json(model=MODEL | {"merges": [["a"]]}),
        bytes_json(model=MODEL | {"merges": [["a", 1]]}),
        bytes_json(model=MODEL | {"merges": ["a b"]}),
        bytes_json(added_tokens={}),
        bytes_json(added_tokens=[{"id": 256}]),
        bytes_json(added_tokens=[{"id": True, "content": "<s>"}]),
        bytes_json(normalizer={"type": "Nonsense"}),
        bytes_json(pre_tokenizer=[{"type": "ByteLevel"}]),
        bytes_json(
            pre_tokenizer={
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
                ],
            }
        ),
    ],
)
def test_a_damaged_file_is_refused(data: bytes) -> None:
    with pytest.raises((FormatError, UnsupportedModelError)) as caught:
        read(data)
    assert caught.value.fault
    assert caught.value.mend


def test_names_that_no_token_spells_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"eos_token '</t>'"):
        read(bytes_json(**ADDED), eos_token="</t>")
    with pytest.raises(ConfigError, match="add_bos_token"):
        read(bytes_json(**ADDED), add_bos_token=True)


def test_an_id_that_two_tokens_share_is_refused() -> None:
    with pytest.raises(LonglensError, match="share an id"):
        read(bytes_json(added_tokens=[added_token(7, "<s>")]))
