from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.repo.anchors import cut_lines
from longlens.repo.line_match import match_lines
from longlens.repo.pieces import (
    FileVersion,
    LineKind,
    Piece,
    changed_piece,
    deleted_piece,
    escape_path,
    file_piece,
    log_piece,
    question_piece,
    renamed_piece,
)

CONTENT = st.lists(st.sampled_from([b"a", b"b", b"", b"def f():", b"\xff", b"c\r"]), max_size=30).map(b"\n".join)


def changed(old: bytes, new: bytes, style: str = "anchors") -> Piece:
    runs = match_lines(cut_lines(old), cut_lines(new))
    before, after = FileVersion(12, "a.py", old), FileVersion(57, "a.py", new)
    return changed_piece(before, after, runs, style)  # type: ignore[arg-type]


def test_a_base_file_is_its_header_and_its_lines() -> None:
    piece = file_piece(FileVersion(12, "src/a.py", b"def f():\n  pass"), "anchors", is_new=False)
    assert piece.data.decode() == "§12 src/a.py\ndef f(): §12:1\n  pass\n"
    assert [(line.number, line.kind) for line in piece.lines] == [(0, LineKind.HEADER), (1, 1), (2, 1)]


def test_a_new_file_says_so() -> None:
    piece = file_piece(FileVersion(57, "b", b""), "anchors", is_new=True)
    assert piece.data.decode() == "§57 b new\n"


def test_a_diff_names_both_versions_and_marks_the_lines_that_are_there_now() -> None:
    assert changed(b"x\ndef f():\n  1\n", b"y\nx\ndef f():\n  2\n").data.decode() == (
        "§57 a.py changed from 12\n@@ -1,3 +1,4 @@\n+y\n x\n def f(): §57:3\n-  1\n+  2\n"
    )


def test_a_removed_line_has_the_number_that_it_had() -> None:
    lines = changed(b"a\nb\nc\n", b"a\nc\n").lines
    assert [line.number for line in lines if line.kind == LineKind.REMOVED] == [2]
    assert [line.number for line in lines if line.kind == LineKind.CONTEXT] == [1, 2]


def test_lines_without_an_anchor_are_counted_from_the_beginning_of_the_hunk() -> None:
    lines = [b"x%d\n" % number for number in range(1, 61)]
    piece = changed(b"".join(lines), b"".join([*lines[:40], *[b"new\n"] * 20, *lines[40:]]))
    assert [line.number for line in piece.lines if line.anchor_end > line.anchor] == [53]


@given(old=CONTENT, new=CONTENT)
def test_places_in_a_diff_are_those_of_its_lines(old: bytes, new: bytes) -> None:
    piece = changed(old, new, "all")
    before, after = cut_lines(old), cut_lines(new)
    ends = [*(line.start for line in piece.lines[1:]), len(piece.data)]
    for line, end in zip(piece.lines, ends, strict=True):
        shown = piece.data[line.start : line.anchor] + piece.data[line.anchor_end : end]
        if line.kind in (LineKind.CONTEXT, LineKind.ADDED):
            assert shown[1:] == after[line.number - 1]
            assert piece.data[line.anchor : line.anchor_end] == f" §57:{line.number}".encode()
        elif line.kind == LineKind.REMOVED:
            assert shown[1:] == before[line.number - 1]


@settings(max_examples=25, deadline=None)
@given(old=CONTENT, new=CONTENT)
def test_patch_makes_the_new_version_of_the_old_one(old: bytes, new: bytes, tmp_path_factory: object) -> None:
    old, new = (b"".join(line.replace(b"\r", b"") for line in cut_lines(each)) for each in (old, new))
    if old == new or not old or not new:
        return
    folder: Path = tmp_path_factory.mktemp("patch")  # type: ignore[attr-defined]
    (folder / "a.py").write_bytes(old)
    diff = b"--- a.py\n+++ a.py\n" + changed(old, new, "none").data.split(b"\n", 1)[1]
    done = subprocess.run(["git", "apply", "-p0", "-"], cwd=folder, input=diff, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "a.py").read_bytes() == new


def test_renamed_and_deleted_files_are_one_line() -> None:
    assert renamed_piece("b.py", 58, 12).data.decode() == "§58 b.py renamed from 12\n"
    assert deleted_piece("b.py", 58).data.decode() == "§58 b.py deleted\n"


def test_question_and_log_end_in_one_newline() -> None:
    assert question_piece(b"why?").data == question_piece(b"why?\n").data == "§question\nwhy?\n".encode()
    assert log_piece("b.log", b"1\n2").data == "§log b.log\n1\n2\n".encode()


def test_a_path_is_one_line_of_text_whatever_is_in_it() -> None:
    assert escape_path("a\\b\nc\x7f\udcff ü d") == "a\\\\b\\x0Ac\\x7F\\xFF ü d"
