"""What became of a line: from the version of a file that a tag names to the file as it is now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from longlens.repo.line_match import follow
from longlens.repo.pieces import Piece


class CurrentLine(NamedTuple):
    """Where a line is now.

    Attributes:
        path: the file's path now; of a removed line, the last path of its file.
        line: its number from 1; of a removed line, the number that it had where it was seen last.
        is_removed: the line is gone.
    """

    path: str
    line: int
    is_removed: bool


class Versions:
    """Every version of every file in a pack, by tag, and the version that took its place."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._of_tag: dict[int, Piece] = {}
        self._next: dict[int, Piece] = {}
        for piece in pieces:
            if piece.from_tag:
                self._next[piece.from_tag] = piece
            if piece.tag and piece.kind != "deleted":
                self._of_tag[piece.tag] = piece

    def __contains__(self, tag: object) -> bool:
        return tag in self._of_tag

    def now(self, tag: int, line: int) -> CurrentLine:
        """Follow a line (from 1) of the version `tag` through all later changes.

        Raises:
            KeyError: no version has this tag.
        """
        path = self._of_tag[tag].path
        is_removed = False
        while (piece := self._next.get(tag)) is not None:
            path = piece.path
            if piece.kind == "deleted":
                return CurrentLine(path, line, True)
            if piece.kind == "changed" and not is_removed:
                moved = follow(piece.runs, line - 1)
                is_removed = moved is None
                line = line if moved is None else moved + 1
            tag = piece.tag
        return CurrentLine(path, line, is_removed)

    def num_lines(self, tag: int) -> int:
        """Return how many lines the file had in the version `tag`.

        Raises:
            KeyError: no version has this tag.
        """
        piece = self._of_tag[tag]
        if piece.kind == "renamed":
            return self.num_lines(piece.from_tag)
        return piece.num_file_lines

    def tags_of_path(self, path: str) -> list[int]:
        """Return the tags of the versions of the file that is at `path` now, oldest first."""
        current = {tag for tag, piece in self._of_tag.items() if piece.path == path and tag not in self._next}
        found = sorted(current)
        while found and (from_tag := self._of_tag[found[0]].from_tag):
            found.insert(0, from_tag)
        return found
