"""Values of a GGUF header, one by one."""

from __future__ import annotations

import struct
import time

import pytest

from longlens.errors import FormatError
from longlens.formats import gguf_cursor
from longlens.formats.gguf_cursor import GgufCursor
from tests.formats.gguf_bytes import ARRAY, BOOL, FLOAT32, STRING, UINT8, UINT32, Value, payload, text
from tests.formats.memory_source import MemorySource


def read(value: Value) -> object:
    cursor = GgufCursor(MemorySource(payload(value)))
    found = cursor.value(value.type_id, "it")
    assert cursor.remaining_bytes == 0
    return found


def refuse(data: bytes, type_id: int) -> str:
    with pytest.raises(FormatError) as caught:
        GgufCursor(MemorySource(data)).value(type_id, "it")
    assert caught.value.mend
    return caught.value.fault


INTEGERS = [(0, 255), (1, -128), (2, 65535), (3, -(2**15)), (4, 2**32 - 1), (5, -(2**31)), (10, 2**64 - 1)]


@pytest.mark.parametrize(
    ("type_id", "number"), [*INTEGERS, (11, -(2**63)), (6, 1.5), (12, -1e300), (7, True), (7, False)]
)
def test_a_number_keeps_its_value_and_kind(type_id: int, number: float) -> None:
    found = read(Value(type_id, number))
    assert found == number
    assert type(found) is type(number)


def test_a_text_is_utf8() -> None:
    assert read(Value(STRING, "Größe 漢 🙂")) == "Größe 漢 🙂"
    assert read(Value(STRING, "")) == ""


def test_arrays_become_tuples() -> None:
    assert read(Value(ARRAY, [1, 2, 3], UINT32)) == (1, 2, 3)
    assert read(Value(ARRAY, [True, False], BOOL)) == (True, False)
    assert read(Value(ARRAY, ["a", "", "ö"], STRING)) == ("a", "", "ö")
    assert read(Value(ARRAY, [], FLOAT32)) == ()


def test_arrays_nest_four_deep_and_no_deeper() -> None:
    value = Value(ARRAY, [7], UINT8)
    for _ in range(3):
        value = Value(ARRAY, [value, value], ARRAY)
    assert read(value) == ((((7,), (7,)), ((7,), (7,))), (((7,), (7,)), ((7,), (7,))))
    assert "more than 4 deep" in refuse(payload(Value(ARRAY, [value], ARRAY)), ARRAY)


def test_a_bool_is_0_or_1() -> None:
    assert "neither 0 nor 1" in refuse(b"\x02", BOOL)
    assert "neither 0 nor 1" in refuse(struct.pack("<IQ", BOOL, 3) + b"\x00\x01\xff", ARRAY)


@pytest.mark.parametrize("type_id", [13, 14, 255, 2**32 - 1])
def test_an_unknown_type_is_refused_by_number(type_id: int) -> None:
    assert f"value type {type_id}" in refuse(bytes(100), type_id)
    assert f"value type {type_id}" in refuse(struct.pack("<IQ", type_id, 1) + bytes(100), ARRAY)


@pytest.mark.parametrize("type_id", [0, 2, 4, 10, 6, 12, BOOL, STRING, ARRAY])
def test_a_value_that_is_cut_short_is_refused(type_id: int) -> None:
    value = {STRING: Value(STRING, "ab"), ARRAY: Value(ARRAY, [1, 2], UINT32)}.get(type_id, Value(type_id, 1))
    data = payload(value)
    for length in range(len(data)):
        refuse(data[:length], type_id)


@pytest.mark.parametrize("length", [3, 2**31, 2**63, 2**64 - 1])
def test_a_text_longer_than_the_file_is_refused(length: int) -> None:
    assert f"takes {length} bytes" in refuse(struct.pack("<Q", length) + b"ab", STRING)


@pytest.mark.parametrize(("element", "most"), [(UINT8, 16), (BOOL, 16), (UINT32, 4), (STRING, 2), (ARRAY, 1)])
def test_an_array_longer_than_the_file_is_refused_before_it_is_made(element: int, most: int) -> None:
    for count in (most + 1, 2**40, 2**64 - 1):
        assert f"is {count}, more than" in refuse(struct.pack("<IQ", element, count) + bytes(16), ARRAY)


def test_an_array_of_more_than_16_million_is_refused() -> None:
    count = 2**24 + 1
    assert "more than 16777216" in refuse(struct.pack("<IQ", UINT8, count) + bytes(count), ARRAY)


def test_text_that_is_not_utf8_is_refused_and_named() -> None:
    assert "it, at byte 8, is not UTF-8" in refuse(text(b"\xff\xfe"), STRING)
    assert "entry 1 of it is not UTF-8" in refuse(payload(Value(ARRAY, ["a", b"\xc3"], STRING)), ARRAY)


def test_a_header_beyond_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_cursor, "MAX_HEADER_BYTES", 64)
    assert "64 that a header may take" in refuse(text("x" * 100), STRING)


def test_texts_are_read_across_the_edge_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = tuple("x" * (number % 40) for number in range(60))
    data = payload(Value(ARRAY, texts, STRING))
    for window in range(1, 130):
        monkeypatch.setattr(gguf_cursor, "_WINDOW_BYTES", window)
        cursor = GgufCursor(MemorySource(data))
        assert cursor.value(ARRAY, "it") == texts
        assert cursor.position == len(data)


def test_a_window_is_fetched_once_and_no_more_is_asked_for_than_there_is() -> None:
    source = MemorySource(payload(Value(ARRAY, list(range(1000)), UINT32)) + bytes(5000))
    GgufCursor(source).value(ARRAY, "it")
    assert source.reads == [(0, source.num_bytes)]


def test_a_vocabulary_of_150_000_is_read_in_half_a_second() -> None:
    words = [f"word{number}" for number in range(150_000)]
    data = payload(Value(ARRAY, words, STRING))
    times = []
    for _ in range(3):
        start = time.process_time()
        assert len(GgufCursor(MemorySource(data)).value(ARRAY, "it")) == 150_000  # type: ignore[arg-type]
        times.append(time.process_time() - start)
    assert min(times) < 0.5
