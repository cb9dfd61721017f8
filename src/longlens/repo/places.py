"""What the model looked at: selected positions become shares of files' lines.

The score is defined in docs/concepts/places.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from longlens.errors import ShapeError
from longlens.repo.versions import CurrentLine

NUM_FIRST_POSITIONS = 4
_SINK_FREQUENCY = 0.95
_SINK_DISTANCE = 0.5
_KEPT_SHARE = 0.5
_MOST_GAP_LINES = 2
_DIGITS = 6


@dataclass(frozen=True)
class Place:
    """A range of lines that the model looked at.

    Attributes:
        path: the file's path now.
        start: its first line, from 1.
        end: its last line.
        share: part of all that was looked at, 0 to 1.
        is_removed: the lines are in the prompt, but no longer in the file; their numbers are those they had last.
    """

    path: str
    start: int
    end: int
    share: float
    is_removed: bool = False

    def as_json(self) -> dict[str, object]:
        """Return the fields of the JSON contract; `removed` is there only when it is true."""
        fields: dict[str, object] = {"path": self.path, "start": self.start, "end": self.end, "share": self.share}
        return fields | ({"removed": True} if self.is_removed else {})


class LineMap(Protocol):
    """Which line of which text every token of a prompt belongs to; `PositionMap` is the one of a pack."""

    @property
    def offset(self) -> int:
        """The position of the first token that may belong to a line."""

    @property
    def end(self) -> int:
        """The position after the last one."""

    @property
    def num_lines(self) -> int:
        """Lines, numbered from 0 as rows."""

    def counted_rows(self) -> NDArray[np.int64]:
        """Return for every token from `offset` to `end` the row of its line, -1 where it is not counted."""

    def current_lines(self) -> list[CurrentLine | None]:
        """Return for every row where its line is now; None where it is none of a file's own."""


class PlaceCounter:
    """Adds up the selections of full layers over an answer's tokens.

    Args:
        num_positions: positions of the prompt; what lies behind them is the answer and is not counted.
    """

    def __init__(self, num_positions: int) -> None:
        self._weights = np.zeros(num_positions, dtype=np.float64)
        self._times = np.zeros(num_positions, dtype=np.int64)
        self._num_selections = 0

    @property
    def num_selections(self) -> int:
        """Selections added: answer tokens times full layers."""
        return self._num_selections

    def add(self, layer: int, positions_TK: NDArray[np.integer]) -> None:
        """Add what one full layer selected for some of the answer's tokens.

        Args:
            layer: the layer, for the error's text; all full layers count alike.
            positions_TK: for each token the positions, each once, and -1 for none.

        Raises:
            ShapeError: the array is not two-dimensional.
        """
        if positions_TK.ndim != 2:
            raise ShapeError(f"positions of layer {layer} have {positions_TK.ndim} dimensions", "give [tokens, K]")
        for row in positions_TK:
            chosen = row[row >= 0]
            if not len(chosen):
                continue
            inside = chosen[chosen < len(self._weights)]
            # A row names no position twice, so that plain indexed addition is right.
            self._weights[inside] += 1.0 / len(chosen)
            self._times[inside] += 1
            self._num_selections += 1

    def line_shares(self, positions: LineMap) -> dict[CurrentLine, float]:
        """Return the share of every line that was looked at, in the order of the pack; they sum to 1."""
        scores, _ = self._scores(positions)
        total = sum(scores.values())
        return {line: score / total for line, score in scores.items()} if total else {}

    def places(self, positions: LineMap, *, most: int | None = None) -> list[Place]:
        """Return the ranges that the model looked at most, the largest share first.

        Args:
            positions: the map of the prompt.
            most: how many at most; None for all.
        """
        scores, num_tokens = self._scores(positions)
        total = sum(scores.values())
        if not total:
            return []
        density = {line: scores[line] / num_tokens[line] for line in scores}
        held = least = 0.0
        for line in sorted(scores, key=lambda each: -density[each]):
            if held >= _KEPT_SHARE * total:
                break
            held += scores[line]
            least = density[line]
        # Lines looked at alike are kept or dropped together, whatever the last digit of a sum.
        kept = {line for line in scores if density[line] >= least * (1 - 1e-9)}
        found = [_place(group, scores, total) for group in _ranges(kept)]
        return sorted(found, key=lambda place: (-place.share, place.path, place.start))[:most]

    def _scores(self, positions: LineMap) -> tuple[dict[CurrentLine, float], dict[CurrentLine, int]]:
        rows = positions.counted_rows()
        places = np.arange(positions.offset, positions.end)
        rows[(places < NUM_FIRST_POSITIONS) | (places >= len(self._weights))] = -1
        weights, times = (self._of_tokens(each, places) for each in (self._weights, self._times))
        rows[self._sinks(rows, times, positions.num_lines)] = -1
        is_counted = rows >= 0
        of_row = np.bincount(rows[is_counted], weights=weights[is_counted], minlength=positions.num_lines)
        tokens_of_row = np.bincount(rows[is_counted], minlength=positions.num_lines)
        scores: dict[CurrentLine, float] = {}
        num_tokens: dict[CurrentLine, int] = {}
        for line, score, num in zip(positions.current_lines(), of_row.tolist(), tokens_of_row.tolist(), strict=True):
            if line is not None and score > 0:
                scores[line] = scores.get(line, 0.0) + score
                num_tokens[line] = num_tokens.get(line, 0) + num
        return scores, num_tokens

    def _of_tokens(self, values: NDArray[np.generic], places: NDArray[np.int64]) -> NDArray[np.float64]:
        found = np.zeros(len(places))
        inside = places < len(values)
        found[inside] = values[places[inside]]
        return found

    def _sinks(self, rows: NDArray[np.int64], times: NDArray[np.float64], num_lines: int) -> NDArray[np.bool_]:
        """Find the tokens that are chosen nearly always while the rest of their line is not."""
        is_counted = rows >= 0
        at = np.where(is_counted, rows, 0)
        sums = np.bincount(rows[is_counted], weights=times[is_counted], minlength=max(num_lines, 1))[at]
        others = np.bincount(rows[is_counted], minlength=max(num_lines, 1))[at] - 1
        mean_of_others = np.divide(sums - times, others, out=np.zeros_like(times), where=others > 0)
        often = times > _SINK_FREQUENCY * max(self._num_selections, 1)
        return np.asarray(is_counted & often & (mean_of_others < _SINK_DISTANCE * times), dtype=np.bool_)


def _ranges(lines: set[CurrentLine]) -> Iterator[list[CurrentLine]]:
    group: list[CurrentLine] = []
    for line in sorted(lines, key=lambda each: (each.path, each.is_removed, each.line)):
        last = group[-1] if group else None
        if last is not None and (
            (last.path, last.is_removed) != (line.path, line.is_removed) or line.line - last.line > _MOST_GAP_LINES + 1
        ):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _place(group: list[CurrentLine], scores: dict[CurrentLine, float], total: float) -> Place:
    first, last = group[0], group[-1]
    lines = (first._replace(line=number) for number in range(first.line, last.line + 1))
    share = sum(scores.get(line, 0.0) for line in lines) / total
    return Place(first.path, first.line, last.line, round(share, _DIGITS), first.is_removed)
