"""Anchors that a model copied become paths and lines, while the answer is written."""

from __future__ import annotations

import re

from longlens.repo.position_map import PositionMap

_ANCHOR = re.compile(r"§(\d{1,9}:\d{1,9})(?!\d)")
# What may still become an anchor when more text comes.
_OPEN_END = re.compile(r"§\d{0,9}(?::\d{0,9})?\Z")


class CitationWriter:
    """Turns `§12:42` into `src/app.py:42`, however the text is cut; what names no line of the pack stays as it is."""

    def __init__(self, positions: PositionMap) -> None:
        """Read tags with a pack's map."""
        self._positions = positions
        self._held = ""
        self.cited: list[tuple[str, int]] = []

    def push(self, text: str) -> str:
        """Take the next piece and return what is certain by now."""
        text = self._held + text
        open_end = _OPEN_END.search(text)
        end = open_end.start() if open_end else len(text)
        self._held = text[end:]
        return self._resolved(text[:end])

    def finish(self) -> str:
        """Return what was held back, resolved."""
        text, self._held = self._held, ""
        return self._resolved(text)

    def _resolved(self, text: str) -> str:
        return _ANCHOR.sub(self._path_of, text)

    def _path_of(self, match: re.Match[str]) -> str:
        line = self._positions.resolve_anchor(match[1])
        if line is None:
            return match[0]
        self.cited.append((line.path, line.line))
        note = " (removed)" if line.is_removed else ""
        return f"{line.path}:{line.line}{note}"
