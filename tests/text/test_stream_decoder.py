from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.text.segments import Segment
from longlens.text.stream_decoder import StreamDecoder
from longlens.text.tokenizer import Tokenizer
from tests.text.vocabularies import glm_json

GLM = Tokenizer.from_json(glm_json())
IDS = st.lists(st.integers(0, GLM.vocab_size + 2))
BYTES = st.binary(max_size=20)


def stream(ids: list[int]) -> list[str]:
    decoder = StreamDecoder(GLM)
    return [*(decoder.push(token_id) for token_id in ids), decoder.flush()]


@given(IDS)
def test_a_stream_is_what_decoding_all_at_once_gives(ids: list[int]) -> None:
    assert "".join(stream(ids)) == GLM.decode(ids)


@given(BYTES)
def test_bytes_that_are_no_utf_8_are_replaced_as_python_does(data: bytes) -> None:
    ids = [GLM.encode_bytes(bytes([byte]))[0] for byte in data]
    assert "".join(stream(ids)) == data.decode("utf-8", "replace")


@given(st.text(max_size=8))
def test_a_character_comes_whole_and_as_soon_as_it_can(text: str) -> None:
    decoder = StreamDecoder(GLM)
    data = text.encode()
    got = ""
    for end, byte in enumerate(data, start=1):
        got += decoder.push(GLM.encode_bytes(bytes([byte]))[0])
        assert got == data[:end].decode("utf-8", "ignore")


def test_half_a_character_waits_and_is_replaced_at_the_end() -> None:
    half = GLM.encode_bytes("é".encode()[:1])
    assert stream([*half, *half]) == ["", "\ufffd", "\ufffd"]


def test_flushing_begins_anew() -> None:
    decoder = StreamDecoder(GLM)
    first, second = (GLM.encode_bytes(bytes([byte]))[0] for byte in "é".encode())
    assert (decoder.push(first), decoder.flush(), decoder.flush()) == ("", "\ufffd", "")
    assert decoder.push(first) + decoder.push(second) == "é"


def test_control_tokens_are_segments_of_their_own() -> None:
    decoder = StreamDecoder(GLM)
    think = GLM.id_of("<think>")
    assert decoder.push_segments(think) == [Segment("<think>", is_control=True)]
    spelled = [segment for token_id in GLM.encode("<think>") for segment in decoder.push_segments(token_id)]
    assert {segment.is_control for segment in spelled} == {False}
    assert "".join(segment.text for segment in spelled) == "<think>"


def test_a_control_token_cuts_a_character_off() -> None:
    decoder = StreamDecoder(GLM)
    [half] = GLM.encode_bytes("é".encode()[:1])
    assert decoder.push_segments(half) == []
    assert decoder.push_segments(GLM.id_of("</think>")) == [Segment("\ufffd"), Segment("</think>", is_control=True)]


@given(IDS)
def test_segments_are_the_same_text(ids: list[int]) -> None:
    decoder = StreamDecoder(GLM)
    segments = [segment for token_id in ids for segment in decoder.push_segments(token_id)]
    assert "".join(segment.text for segment in segments) + decoder.flush() == GLM.decode(ids)


def test_a_negative_id_is_refused() -> None:
    with pytest.raises(UsageError, match="-1"):
        StreamDecoder(GLM).push(-1)
