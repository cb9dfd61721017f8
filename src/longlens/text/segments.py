"""Text in which the control tokens are known: what a chat template makes, and what a model writes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A run of text.

    Attributes:
        text: the characters.
        is_control: they are one control token of the vocabulary, such as `<|user|>`. Where this is False, the same
            characters are nothing but characters.
    """

    text: str
    is_control: bool = False


class ControlTokens:
    """The spellings of a vocabulary's control tokens, and where they stand in a text."""

    def __init__(self, spellings: Iterable[str]) -> None:
        self.spellings = frozenset(spellings) - {""}
        # Of several that begin at one place, the longest is meant.
        ordered = sorted(self.spellings, key=lambda spelling: (-len(spelling), spelling))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def split(self, text: str) -> list[Segment]:
        """Take every spelling of a control token in `text` for that token; for text that is trusted as a whole."""
        if self._pattern is None:
            return [Segment(text)] if text else []
        segments = []
        end = 0
        for match in self._pattern.finditer(text):
            if match.start() > end:
                segments.append(Segment(text[end : match.start()]))
            segments.append(Segment(match[0], is_control=True))
            end = match.end()
        if end < len(text):
            segments.append(Segment(text[end:]))
        return segments
