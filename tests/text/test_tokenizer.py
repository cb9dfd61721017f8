from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.text.byte_alphabet import spell
from longlens.text.segments import Segment
from longlens.text.tokenizer import Tokenizer
from tests.text.vocabularies import CONTROL, added_token, bytes_json, gguf_metadata, glm_json

TESTS = Path(__file__).parents[1]
CHECKPOINT = TESTS / "fixtures" / "tiny-glm"
GOLDEN = json.loads((TESTS / "golden" / "token_ids.json").read_text(encoding="utf-8"))

TOKENIZERS = {
    "json": Tokenizer.from_json(glm_json()),
    "glm4": Tokenizer.from_gguf(gguf_metadata(glm_json(), "glm4")),
    "chatglm-bpe": Tokenizer.from_gguf(gguf_metadata(glm_json(), "chatglm-bpe")),
    "gpt-2": Tokenizer.from_gguf(gguf_metadata(glm_json(), "gpt-2")),
    "llama-bpe": Tokenizer.from_gguf(gguf_metadata(glm_json(), "llama-bpe")),
    "smollm": Tokenizer.from_gguf(gguf_metadata(glm_json(), "smollm")),
    "qwen2": Tokenizer.from_gguf(gguf_metadata(glm_json(), "qwen2")),
    "deepseek-v3": Tokenizer.from_gguf(gguf_metadata(glm_json(), "deepseek-v3")),
}
GLM = TOKENIZERS["json"]
LIBRARY = tokenizers.Tokenizer.from_str(glm_json().decode())

FRAGMENTS = [
    *CONTROL,
    *(token[:-1] for token in CONTROL),
    "<",
    "|",
    ">",
    "[",
    "]",
    "/",
    "user",
    "think",
    " ",
    "\n",
    "x",
]
TRICKY = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=12).map("".join)
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def names_control_token(text: str) -> bool:
    return any(token in text for token in CONTROL)


@each_tokenizer
@given(text=st.text())
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@each_tokenizer
@given(data=st.binary())
def test_any_bytes_come_back(tokenizer: Tokenizer, data: bytes) -> None:
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode_bytes(data))) == data


@given(st.text())
def test_bytes_that_are_text_are_encoded_as_text(text: str) -> None:
    assert GLM.encode_bytes(text.encode()) == GLM.encode(text)


@each_tokenizer
@given(text=TRICKY)
def test_no_text_is_encoded_as_a_control_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.special_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == text


@each_tokenizer
@pytest.mark.parametrize("token", CONTROL)
def test_every_control_token_in_a_text_is_text(tokenizer: Tokenizer, token: str) -> None:
    for text in (token, f" {token}", f"{token}\n", f"a{token}b", token * 3):
        assert tokenizer.special_ids.isdisjoint(tokenizer.encode(text))
        assert tokenizer.special_ids.isdisjoint(tokenizer.encode_bytes(text.encode() + b"\xff"))
    assert len(tokenizer.special_ids) == len(CONTROL)


@given(st.text())
def test_text_is_encoded_as_the_tokenizers_library_does(text: str) -> None:
    if not names_control_token(text):
        assert GLM.encode(text) == LIBRARY.encode(text, add_special_tokens=False).ids


@given(TRICKY)
def test_trusted_text_is_encoded_as_the_tokenizers_library_does(text: str) -> None:
    assert GLM.encode_rendered(GLM.control.split(text)) == LIBRARY.encode(text, add_special_tokens=False).ids


@given(TRICKY)
def test_the_same_vocabulary_in_gguf_gives_the_same_ids(text: str) -> None:
    assert TOKENIZERS["glm4"].encode(text) == GLM.encode(text)


def test_a_word_is_looked_up_before_it_is_merged_only_where_the_file_says_so() -> None:
    assert len(GLM.encode("a wholeword")) == 2
    assert len(TOKENIZERS["glm4"].encode("a wholeword")) == 2
    assert len(TOKENIZERS["chatglm-bpe"].encode("a wholeword")) > 2


def test_texts_that_touch_are_encoded_as_one() -> None:
    whole = GLM.encode("the router chooses")
    assert whole != [*GLM.encode("t"), *GLM.encode("he router chooses")]
    assert GLM.encode_rendered([Segment("the rou"), Segment("ter"), Segment(" chooses")]) == whole
    user = Segment("<|user|>", is_control=True)
    assert GLM.encode_rendered([user, Segment("t"), Segment("he router chooses"), user]) == [
        *(GLM.id_of("<|user|>"), *whole, GLM.id_of("<|user|>"))
    ]


@given(st.lists(st.sampled_from(["<l>", "<r>", "<s>", " ", "\n\t", "\u3000", "x"]), max_size=8).map("".join))
def test_white_space_beside_a_control_token_belongs_to_it_where_the_file_says_so(text: str) -> None:
    rules = [added_token(256, "<l>", lstrip=True), added_token(257, "<r>", rstrip=True), added_token(258, "<s>")]
    data = bytes_json(added_tokens=rules)
    tokenizer = Tokenizer.from_json(data)
    expected = tokenizers.Tokenizer.from_str(data.decode()).encode(text, add_special_tokens=False).ids
    assert tokenizer.encode_rendered(tokenizer.control.split(text)) == expected


def test_a_segment_says_whether_it_is_a_control_token() -> None:
    assert GLM.encode_rendered([Segment("<think>", is_control=True)]) == [GLM.id_of("<think>")]
    assert GLM.encode_rendered([Segment("<think>")]) == GLM.encode("<think>")


def test_a_control_token_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(UsageError, match="im_start"):
        GLM.encode_rendered([Segment("<|im_start|>", is_control=True)])


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc80b"])
def test_half_a_surrogate_pair_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UsageError, match="surrogate"):
        GLM.encode(text)


def test_a_byte_without_a_token_is_refused_instead_of_dropped() -> None:
    model = json.loads(bytes_json())["model"]
    del model["vocab"][spell(b"\x04")]
    tokenizer = Tokenizer.from_json(bytes_json(model=model))
    assert tokenizer.decode(tokenizer.encode("a\x05b")) == "a\x05b"
    with pytest.raises(UsageError, match="0x04"):
        tokenizer.encode("a\x04b")
    with pytest.raises(UsageError, match="0x04"):
        tokenizer.encode_bytes(b"\x04\xff")


def test_ids_are_found_by_text() -> None:
    assert GLM.token_bytes(GLM.id_of(" the")) == b" the"
    assert GLM.token_bytes(GLM.id_of("</think>")) == b"</think>"
    with pytest.raises(UsageError, match="no token"):
        GLM.id_of("nonesuch")


def test_an_id_beyond_the_tokens_is_shown_as_a_replacement_character() -> None:
    assert GLM.decode([GLM.id_of("a"), GLM.vocab_size, GLM.vocab_size + 1000]) == "a\ufffd\ufffd"
    with pytest.raises(UsageError, match="-1"):
        GLM.decode([-1])


def test_the_vocabulary_ends_with_its_highest_id() -> None:
    assert GLM.vocab_size == max(LIBRARY.get_vocab().values()) + 1
    assert all(GLM.token_bytes(token_id) for token_id in range(GLM.vocab_size))


@pytest.fixture(scope="module", params=["json", "gguf"])
def fixture_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "json":
        return Tokenizer.from_json((CHECKPOINT / "tokenizer.json").read_bytes(), stop_ids=(313, 320, 322))
    fields = GGUFReader(TESTS / "fixtures" / "tiny-glm-F32.gguf").fields
    return Tokenizer.from_gguf({name: field.contents() for name, field in fields.items()})


def test_the_fixture_agrees_with_tokenizers_and_llama_cpp(fixture_tokenizer: Tokenizer) -> None:
    for entry in GOLDEN:
        text = entry["text"]
        segments = fixture_tokenizer.control.split(text)
        assert fixture_tokenizer.encode(text) == entry["ids_as_text"]
        assert fixture_tokenizer.encode_rendered(segments) == entry["ids"] == entry["llama_cpp_ids"]


def test_the_fixture_stops_at_three_ids(fixture_tokenizer: Tokenizer) -> None:
    assert fixture_tokenizer.stop_ids == {313, 320, 322}
    assert fixture_tokenizer.start_ids == ()
