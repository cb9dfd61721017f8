"""A file's lines with anchors, ` §TAG:LINE`, at the end of some: what a model copies to cite a place.

Source: docs/reference/pack-format.md, version 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from longlens.errors import UsageError
from longlens.repo.definitions import definition_rule

AnchorStyle = Literal["all", "anchors", "none"]
ANCHOR_STYLES: tuple[str, ...] = get_args(AnchorStyle)
MOST_LINES_BETWEEN_ANCHORS = 16
SIGN = "§".encode()


class AnchoredLine(NamedTuple):
    """One line in anchored text; places are byte offsets in it.

    Attributes:
        start: where the line begins.
        anchor: where its anchor begins (with a space), or where one would stand: before the line's end.
        anchor_end: where the anchor ends; equal to `anchor` if there is none.
        number: the line's number in the file, from 1.
    """

    start: int
    anchor: int
    anchor_end: int
    number: int


@dataclass(frozen=True)
class AnchoredText:
    """A file as a pack shows it.

    Attributes:
        data: the bytes; empty for an empty file, else they end in a newline.
        lines: its lines, in order.
        has_added_newline: the last byte is not the file's.
    """

    data: bytes
    lines: tuple[AnchoredLine, ...]
    has_added_newline: bool

    def content(self) -> bytes:
        """Return the file's own bytes: anchors and the added newline taken away."""
        kept = []
        end = 0
        for line in self.lines:
            kept.append(self.data[end : line.anchor])
            end = line.anchor_end
        kept.append(self.data[end : len(self.data) - self.has_added_newline])
        return b"".join(kept)


class AnchorRule:
    """Decides line by line which lines carry an anchor.

    Args:
        path: the file's path; its extension says what a definition looks like.
        tag: the file's tag.
        style: "anchors" for definition lines and every 16th line, "all" or "none".

    Raises:
        UsageError: an unknown style, or a tag below 1.
    """

    def __init__(self, path: str, tag: int, style: AnchorStyle) -> None:
        if style not in ANCHOR_STYLES:
            raise UsageError(f"{style!r} is no style of line numbers", f"use one of {', '.join(ANCHOR_STYLES)}")
        if tag < 1:
            raise UsageError(f"{tag} is not a file tag", "tags are counted from 1")
        self._style = style
        self._prefix = b" %b%d:" % (SIGN, tag)
        self._is_definition = definition_rule(path)
        self._last = 0

    def begin(self, first_line: int) -> None:
        """Begin a run of lines: distances are counted as if an anchor stood before `first_line`."""
        self._last = first_line - 1

    def anchor(self, line: bytes, number: int) -> bytes:
        """Return the anchor of the next line of the run, or nothing; the line may come with its newline."""
        if self._style == "none":
            return b""
        if self._style == "anchors":
            text = line.rstrip()
            if not text:
                return b""
            is_due = number - self._last >= MOST_LINES_BETWEEN_ANCHORS
            if not is_due and not (self._is_definition is not None and self._is_definition(text)):
                return b""
            self._last = number
        return self._prefix + b"%d" % number


def anchored(content: bytes, tag: int, path: str, style: AnchorStyle, first_line: int = 1) -> AnchoredText:
    """Put anchors on a file's lines.

    Args:
        content: the file's bytes, any bytes.
        tag: the file's tag in the pack, from 1.
        path: the file's path; only its extension matters.
        style: "anchors", "all" or "none".
        first_line: the number of the first line in `content`.

    Raises:
        UsageError: an unknown style, or a tag below 1.
    """
    rule = AnchorRule(path, tag, style)
    rule.begin(first_line)
    has_added_newline = bool(content) and not content.endswith(b"\n")
    lines: list[AnchoredLine] = []
    parts: list[bytes] = []
    place = 0
    for number, line in enumerate(cut_lines(content), start=first_line):
        anchor = rule.anchor(line, number)
        end = place_in_line(line)
        lines.append(AnchoredLine(place, place + end, place + end + len(anchor), number))
        if anchor:
            line = line[:end] + anchor + line[end:]
        parts.append(line)
        place += len(line)
    return AnchoredText(b"".join(parts), tuple(lines), has_added_newline)


def cut_lines(content: bytes) -> list[bytes]:
    r"""Cut bytes after each `\n` and nowhere else; a last line without one is given one."""
    lines = [line + b"\n" for line in content.split(b"\n")]
    if not content or content.endswith(b"\n"):
        lines.pop()
    return lines


def place_in_line(line: bytes) -> int:
    r"""Return where a line's anchor stands: before its `\n` or `\r\n`."""
    return len(line) - (2 if line.endswith(b"\r\n") else 1)
