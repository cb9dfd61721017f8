"""JSON that must be an object."""

from __future__ import annotations

import json
import time

import pytest

from longlens.errors import FormatError
from longlens.formats.json_object import read_json_object


def test_an_object_is_read() -> None:
    assert read_json_object(b'{"a": [1, 2.5, true, null], "b": {"c": "\xc3\xa9"}}', "config.json") == {
        "a": [1, 2.5, True, None],
        "b": {"c": "é"},
    }


@pytest.mark.parametrize("text", [b"[1]", b'"text"', b"3", b"null", b"true"])
def test_anything_but_an_object_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError, match=r"config.json is a JSON .*, not an object"):
        read_json_object(text, "config.json")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"a": }', b"{} x", b'{"a": "\xff"}', b'\xef\xbb\xbf{"a": 1}', b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_json_is_refused_in_one_line(text: bytes) -> None:
    with pytest.raises(FormatError, match=r"config.json is not JSON") as caught:
        read_json_object(text, "config.json")
    assert "\n" not in caught.value.fault


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000])
def test_nesting_beyond_reading_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError, match="not JSON"):
        read_json_object(text, "config.json")


def test_a_key_that_comes_twice_is_named() -> None:
    with pytest.raises(FormatError, match="'topk' twice"):
        read_json_object(b'{"a": {"topk": 1, "b": 2, "topk": 3}}', "config.json")


def test_many_keys_are_read_in_linear_time() -> None:
    start = time.process_time()
    text = json.dumps({str(number): number for number in range(100_000)})[:-1] + ', "99999": 1}'
    with pytest.raises(FormatError, match="'99999' twice"):
        read_json_object(text.encode(), "config.json")
    assert time.process_time() - start < 5
