"""The pieces of a pack: one header line each, and what follows it, every line with its place.

Source: docs/reference/pack-format.md, version 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, NamedTuple

from longlens.repo.anchors import SIGN, AnchorRule, AnchorStyle, anchored, cut_lines, place_in_line
from longlens.repo.line_match import CONTEXT_LINES, Change, Run, changes, hunks

PieceKind = Literal["base", "new", "changed", "renamed", "deleted", "question", "log"]

_ESCAPED = re.compile(r"[\\\x00-\x1f\x7f\udc80-\udcff]")


class LineKind(IntEnum):
    """What a line of a pack is."""

    HEADER = 0
    FILE = 1
    """A line of a file, whole: of the base, or of a file that came later."""
    CONTEXT = 2
    ADDED = 3
    REMOVED = 4
    HUNK = 5
    QUESTION = 6
    LOG = 7


class PieceLine(NamedTuple):
    """A line of a piece; places are byte offsets in the piece.

    Attributes:
        start: where the line begins.
        anchor: where its anchor begins, or where one would stand.
        anchor_end: where the anchor ends; equal to `anchor` if there is none.
        number: the line's number, from 1, in the file as it is after this piece; of a removed line, in the file as it
            was before; 0 for headers, hunks' heads and the question.
        kind: what it is.
    """

    start: int
    anchor: int
    anchor_end: int
    number: int
    kind: LineKind


@dataclass(frozen=True)
class Piece:
    """One piece of a pack.

    Attributes:
        kind: what it holds.
        data: its bytes; they begin with the header and end in a newline.
        lines: every line of it, the header first.
        tag: the tag of this version of the file; 0 for question and log.
        path: the file's path; the log's name; empty for the question. Bytes that are not UTF-8 are surrogate escapes.
        from_tag: the tag of the version before, for a changed, renamed or deleted file; else 0.
        runs: of a changed file, the lines shared with the version before.
        has_added_newline: the last byte belongs to no file.
        num_file_lines: lines of the file as it is after this piece; 0 where the piece alone does not say.
    """

    kind: PieceKind
    data: bytes = field(repr=False)
    lines: tuple[PieceLine, ...] = field(repr=False)
    tag: int = 0
    path: str = ""
    from_tag: int = 0
    runs: tuple[Run, ...] = field(default=(), repr=False)
    has_added_newline: bool = False
    num_file_lines: int = 0


@dataclass(frozen=True)
class FileVersion:
    """A file at one time.

    Attributes:
        tag: the tag of this version.
        path: relative to the root, with slashes.
        content: its bytes.
    """

    tag: int
    path: str
    content: bytes = field(repr=False)


def escape_path(path: str) -> str:
    r"""Write a path as one line of text: `\` doubled, control characters and bytes that are not UTF-8 as `\xHH`."""
    return _ESCAPED.sub(_escape, path)


def file_piece(file: FileVersion, style: AnchorStyle, *, is_new: bool) -> Piece:
    """Build the piece of a whole file: of the base, or, if `is_new`, of a file that came after it."""
    header = _header(file.tag, file.path, " new" if is_new else "")
    text = anchored(file.content, file.tag, file.path, style)
    shift = len(header)
    lines = [
        PieceLine(line.start + shift, line.anchor + shift, line.anchor_end + shift, line.number, LineKind.FILE)
        for line in text.lines
    ]
    return Piece(
        kind="new" if is_new else "base",
        data=header + text.data,
        lines=(_header_line(header), *lines),
        tag=file.tag,
        path=file.path,
        has_added_newline=text.has_added_newline,
        num_file_lines=len(text.lines),
    )


def changed_piece(old: FileVersion, new: FileVersion, runs: Sequence[Run], style: AnchorStyle) -> Piece:
    """Build the diff between two versions of a file.

    Args:
        old: the version that the pack holds.
        new: the version now, with its own tag.
        runs: the lines they share, from `match_lines` on their lines (`cut_lines`).
        style: which lines get an anchor.
    """
    writer = _DiffWriter(old, new, style)
    for group in hunks(changes(runs, len(writer.old), len(writer.new))):
        writer.write(group)
    return Piece(
        kind="changed",
        data=b"".join(writer.parts),
        lines=tuple(writer.lines),
        tag=new.tag,
        path=new.path,
        from_tag=old.tag,
        runs=tuple(runs),
        num_file_lines=len(writer.new),
    )


def renamed_piece(path: str, tag: int, from_tag: int) -> Piece:
    """Build the piece that says that the version `from_tag` now has another path."""
    header = _header(tag, path, f" renamed from {from_tag}")
    return Piece("renamed", header, (_header_line(header),), tag=tag, path=path, from_tag=from_tag)


def deleted_piece(path: str, tag: int) -> Piece:
    """Build the piece that says that the file with the version `tag` is gone."""
    header = _header(tag, path, " deleted")
    return Piece("deleted", header, (_header_line(header),), tag=tag, path=path, from_tag=tag)


def question_piece(question: bytes) -> Piece:
    """Build the last piece."""
    return _text_piece("question", SIGN + b"question\n", question)


def log_piece(name: str, content: bytes) -> Piece:
    """Build the piece of a log file."""
    return _text_piece("log", SIGN + b"log " + escape_path(name).encode() + b"\n", content, name)


class _DiffWriter:
    """Collects the lines of a diff."""

    def __init__(self, old: FileVersion, new: FileVersion, style: AnchorStyle) -> None:
        self.old = cut_lines(old.content)
        self.new = cut_lines(new.content)
        self._rule = AnchorRule(new.path, new.tag, style)
        header = _header(new.tag, new.path, f" changed from {old.tag}")
        self.parts = [header]
        self.lines = [_header_line(header)]
        self._place = len(header)

    def write(self, group: Sequence[Change]) -> None:
        """Write one hunk."""
        before = min(CONTEXT_LINES, group[0].old_start)
        old, new = group[0].old_start - before, group[0].new_start - before
        old_end = min(group[-1].old_end + CONTEXT_LINES, len(self.old))
        new_end = group[-1].new_end + old_end - group[-1].old_end
        head = f"@@ -{_range(old, old_end)} +{_range(new, new_end)} @@\n".encode()
        self._put(head, b"", 0, LineKind.HUNK)
        self._rule.begin(new + 1)
        for change in (*group, Change(old_end, old_end, new_end, new_end)):
            self._keep(b" ", range(new, change.new_start), LineKind.CONTEXT)
            for number in range(change.old_start, change.old_end):
                self._put(b"-" + self.old[number], b"", number + 1, LineKind.REMOVED)
            self._keep(b"+", range(change.new_start, change.new_end), LineKind.ADDED)
            new = change.new_end

    def _keep(self, mark: bytes, numbers: range, kind: LineKind) -> None:
        for number in numbers:
            line = self.new[number]
            self._put(mark + line, self._rule.anchor(line, number + 1), number + 1, kind)

    def _put(self, line: bytes, anchor: bytes, number: int, kind: LineKind) -> None:
        end = place_in_line(line)
        self.lines.append(PieceLine(self._place, self._place + end, self._place + end + len(anchor), number, kind))
        if anchor:
            line = line[:end] + anchor + line[end:]
        self.parts.append(line)
        self._place += len(line)


def _text_piece(kind: Literal["question", "log"], header: bytes, content: bytes, path: str = "") -> Piece:
    line_kind = LineKind.QUESTION if kind == "question" else LineKind.LOG
    parts = cut_lines(content)
    lines = [_header_line(header)]
    place = len(header)
    for number, part in enumerate(parts, start=1):
        end = place + place_in_line(part)
        lines.append(PieceLine(place, end, end, number if kind == "log" else 0, line_kind))
        place += len(part)
    has_added_newline = bool(content) and not content.endswith(b"\n")
    data = header + b"".join(parts)
    return Piece(kind, data, tuple(lines), path=path, has_added_newline=has_added_newline)


def _header(tag: int, path: str, rest: str) -> bytes:
    return SIGN + f"{tag} {escape_path(path)}{rest}\n".encode()


def _header_line(header: bytes) -> PieceLine:
    return PieceLine(0, len(header) - 1, len(header) - 1, 0, LineKind.HEADER)


def _range(start: int, end: int) -> str:
    # Unified diff: lines from 1; an empty range names the line before it; a count of 1 is left out.
    size = end - start
    return f"{start + 1}" if size == 1 else f"{start + (size > 0)},{size}"


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return "\\\\" if character == "\\" else f"\\x{ord(character) & 0xFF:02X}"
