from __future__ import annotations

import time
from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.repo.anchors import ANCHOR_STYLES, AnchorStyle, anchored, cut_lines
from longlens.text.tokenizer import Tokenizer

SOURCE = Path(__file__).parents[2] / "src" / "longlens"
LINES = st.lists(st.sampled_from([b"", b" ", b"\t", b"def f():", b"x", b"\r", b"\xff\xc2", "é §1:2".encode()]))
FILES = st.one_of(
    st.binary(),
    st.builds(lambda lines, end, last: end.join(lines) + last, LINES, st.sampled_from([b"\n", b"\r\n"]), st.binary()),
)


def text_of(content: bytes, style: AnchorStyle = "anchors", path: str = "a.py") -> str:
    return anchored(content, 12, path, style).data.decode()


@given(content=FILES, style=st.sampled_from(ANCHOR_STYLES))
def test_any_bytes_come_back_when_anchors_are_taken_away(content: bytes, style: AnchorStyle) -> None:
    assert anchored(content, 12, "a.py", style).content() == content


@given(content=FILES)
def test_lines_are_where_they_are_said_to_be(content: bytes) -> None:
    text = anchored(content, 12, "a.py", "anchors")
    ends = [*(line.start for line in text.lines[1:]), len(text.data)][-len(text.lines) :]
    for line, end, original in zip(text.lines, ends, cut_lines(content), strict=bool(content)):
        assert text.data[line.start : line.anchor] + text.data[line.anchor_end : end] == original
        assert text.data[line.anchor : line.anchor_end] in (b"", f" §12:{line.number}".encode())


def test_a_definition_line_carries_an_anchor_before_its_end() -> None:
    assert text_of(b"x = 1\ndef f():\n    pass\n") == "x = 1\ndef f(): §12:2\n    pass\n"


def test_an_anchor_stands_before_a_carriage_return_that_ends_a_line() -> None:
    assert text_of(b"def f():\r\n  a\rb\r\n") == "def f(): §12:1\r\n  a\rb\r\n"


def test_a_last_line_without_a_newline_is_given_one() -> None:
    text = anchored(b"def f():", 12, "a.py", "anchors")
    assert text.data.decode() == "def f(): §12:1\n"
    assert text.has_added_newline


def test_an_empty_file_has_no_line() -> None:
    assert anchored(b"", 12, "a.py", "all").data == b""
    assert anchored(b"", 12, "a.py", "all").lines == ()


def numbers(content: bytes, path: str = "a.txt") -> list[int]:
    return [line.number for line in anchored(content, 1, path, "anchors").lines if line.anchor_end > line.anchor]


def test_every_16th_line_carries_an_anchor() -> None:
    assert numbers(b"x\n" * 15) == []
    assert numbers(b"x\n" * 48) == [16, 32, 48]


def test_lines_are_counted_from_the_last_anchor() -> None:
    assert numbers(b"x\n" * 4 + b"def f():\n" + b"x\n" * 30, "a.py") == [5, 21]


def test_a_blank_line_passes_its_anchor_on() -> None:
    assert numbers(b"x\n" * 15 + b"\n \t\r\n\x0c\ny\n" + b"x\n" * 16) == [19, 35]
    assert numbers(b"\n" * 100) == []


def test_lines_are_numbered_from_the_first_line_that_is_given() -> None:
    assert anchored(b"def f():\n", 3, "a.py", "anchors", first_line=41).data == "def f(): §3:41\n".encode()


def test_style_all_marks_every_line_and_none_marks_none() -> None:
    assert text_of(b"a\n\nb\n", "all") == "a §12:1\n §12:2\nb §12:3\n"
    assert text_of(b"def a():\n" * 40, "none") == "def a():\n" * 40


def test_an_unknown_style_and_a_tag_of_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="style"):
        anchored(b"", 1, "a", "some")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="tag"):
        anchored(b"", 0, "a", "none")


def test_anchors_cost_at_most_eight_percent_of_a_real_vocabularys_tokens(smollm2_gguf: Path) -> None:
    fields = GGUFReader(smollm2_gguf).fields
    tokenizer = Tokenizer.from_gguf({key: field.contents() for key, field in fields.items() if "tokenizer" in key})
    bare = marked = 0
    for tag, path in enumerate(sorted(SOURCE.rglob("*.py")), start=1):
        content = path.read_bytes()
        bare += len(tokenizer.encode_bytes(content))
        marked += len(tokenizer.encode_bytes(anchored(content, tag, path.name, "anchors").data))
    assert 1.01 * bare < marked <= 1.08 * bare


def test_a_file_of_a_megabyte_takes_less_than_a_second() -> None:
    content = b"def function():\n    return value\n\n" * 31_000
    start = time.perf_counter()
    anchored(content, 1, "a.py", "anchors")
    assert time.perf_counter() - start < 1
