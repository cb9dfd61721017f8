"""What the model looked at: selected positions become shares of files' lines.

The score is defined in docs/concepts/places.md.
"""

from __future__ import annotations

from collections import Counter
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
_NEAR_TOKENS = 64
_MOST_EXPECTED = 0.5
_LEAST_EXCESS = 1e-9
_DIGITS = 6


@dataclass(frozen=True)
class Place:
    """A range of lines that the model looked at.

    Attributes:
        path: the file's path now.
        start: its first line, from 1.
        end: its last line.
        share: its part of the scores of all lines, 0 to 1.
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
    """Counts how often each full layer selects each position while an answer is written.

    It holds 4 bytes for each position of the prompt and full layer, however long the answer is: 8.4 MB for 100,000
    positions and 21 layers.

    Args:
        num_positions: positions of the prompt; what lies behind them is the answer and is not counted.
    """

    def __init__(self, num_positions: int) -> None:
        self._num_positions = num_positions
        self._times: dict[int, NDArray[np.int32]] = {}
        self._num_of_layer: Counter[int] = Counter()

    @property
    def num_selections(self) -> int:
        """Selections added: answer tokens times full layers."""
        return self._num_of_layer.total()

    def add(self, layer: int, positions_TK: NDArray[np.integer]) -> None:
        """Add what one full layer selected for some of the answer's tokens.

        Args:
            layer: the layer's number; each layer is counted by itself.
            positions_TK: for each token the positions, each once, and -1 for none.

        Raises:
            ShapeError: the array is not two-dimensional.
        """
        if positions_TK.ndim != 2:
            raise ShapeError(f"positions of layer {layer} have {positions_TK.ndim} dimensions", "give [tokens, K]")
        times = self._times.setdefault(layer, np.zeros(self._num_positions, dtype=np.int32))
        for row in positions_TK:
            chosen = row[row >= 0]
            if not len(chosen):
                continue
            # A row names no position twice, so that plain indexed addition is right.
            times[chosen[chosen < self._num_positions]] += 1
            self._num_of_layer[layer] += 1

    def line_shares(self, positions: LineMap, *, background: PlaceCounter | None = None) -> dict[CurrentLine, float]:
        """Return the share of every line that stands out, in the order of the pack; they sum to 1.

        Args:
            positions: the map of the prompt.
            background: as for `places`.
        """
        scores, _ = self._scores(positions, background)
        total = sum(scores.values())
        return {line: score / total for line, score in scores.items()} if total else {}

    def places(
        self, positions: LineMap, *, most: int | None = None, background: PlaceCounter | None = None
    ) -> list[Place]:
        """Return the ranges that the model looked at most, the largest share first.

        Args:
            positions: the map of the prompt.
            most: how many at most; None for all.
            background: what was selected after the same text for an answer to another question; a line counts only
                where it is chosen more often than there.
        """
        scores, num_tokens = self._scores(positions, background)
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

    def _scores(
        self, positions: LineMap, background: PlaceCounter | None
    ) -> tuple[dict[CurrentLine, float], dict[CurrentLine, int]]:
        num_lines = positions.num_lines
        rows, places = self._counted(positions)
        scores_of_row = np.zeros(num_lines)
        for layer in self._times:
            rates = self._rates(layer, places)
            known = np.zeros(len(places)) if background is None else background._rates(layer, places)
            scores_of_row = np.maximum(scores_of_row, _surprise(rows, rates, known, num_lines))
        tokens_of_row = np.bincount(rows, minlength=num_lines)
        scores: dict[CurrentLine, float] = {}
        num_tokens: dict[CurrentLine, int] = {}
        for line, score, num in zip(
            positions.current_lines(), scores_of_row.tolist(), tokens_of_row.tolist(), strict=True
        ):
            if line is not None and score > 0:
                scores[line] = scores.get(line, 0.0) + score
                num_tokens[line] = num_tokens.get(line, 0) + num
        return scores, num_tokens

    def _counted(self, positions: LineMap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row and the position of every token that is counted, row by row."""
        rows = positions.counted_rows()
        places = np.arange(positions.offset, positions.end)
        is_counted = (rows >= 0) & (places >= NUM_FIRST_POSITIONS) & (places < self._num_positions)
        rows, places = rows[is_counted], places[is_counted]
        times = np.zeros(len(places))
        for of_layer in self._times.values():
            times += of_layer[places]
        is_no_sink = ~self._sinks(rows, times, positions.num_lines)
        rows, places = rows[is_no_sink], places[is_no_sink]
        order = np.argsort(rows, kind="stable")
        return rows[order], places[order]

    def _rates(self, layer: int, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return in which part of a layer's selections each position is."""
        rates = np.zeros(len(places))
        if self._num_of_layer[layer]:
            inside = places < self._num_positions
            rates[inside] = self._times[layer][places[inside]] / self._num_of_layer[layer]
        return rates

    def _sinks(self, rows: NDArray[np.int64], times: NDArray[np.float64], num_lines: int) -> NDArray[np.bool_]:
        """Find the tokens that are chosen nearly always while the rest of their line is not."""
        sums = np.bincount(rows, weights=times, minlength=num_lines)[rows]
        others = np.bincount(rows, minlength=num_lines)[rows] - 1
        mean_of_others = np.divide(sums - times, others, out=np.zeros_like(times), where=others > 0)
        often = times > _SINK_FREQUENCY * max(self.num_selections, 1)
        return np.asarray(often & (mean_of_others < _SINK_DISTANCE * times), dtype=np.bool_)


def _surprise(
    rows: NDArray[np.int64], rates: NDArray[np.float64], known: NDArray[np.float64], num_lines: int
) -> NDArray[np.float64]:
    """Return for every row how surprising it is that its tokens were chosen so often, in nats.

    Args:
        rows: the row of every counted token, ascending.
        rates: in which part of one layer's selections each token is.
        known: the same, in the background.
        num_lines: rows.

    Source:
        Dunning, Accurate methods for the statistics of surprise and coincidence, 1993: half of its G².
    """
    starts = np.searchsorted(rows, np.arange(num_lines))
    ends = np.searchsorted(rows, np.arange(num_lines), side="right")
    sums = _sums(rates)
    sizes = ends - starts
    chosen = sums[ends] - sums[starts]
    before, after = np.maximum(starts - _NEAR_TOKENS, 0), np.minimum(ends + _NEAR_TOKENS, len(rows))
    near = _expected(sums[after] - sums[before] - chosen, after - before - sizes)
    anywhere = _expected(sums[-1] - chosen, len(rows) - sizes)
    rate = _means(sums, starts, ends)
    usual = np.minimum(np.maximum(near, anywhere), _MOST_EXPECTED)
    usual = np.maximum(usual, _means(_sums(known), starts, ends))
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = np.where(rate > 0, rate * np.log(rate / usual), 0.0)
        misses = np.where(rate < 1, (1 - rate) * np.log((1 - rate) / (1 - usual)), 0.0)
    # Equal rates may differ in the last digits of their sums.
    return np.where(rate > usual + _LEAST_EXCESS, sizes * (hits + misses), 0.0)


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(values)))


def _means(sums: NDArray[np.float64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    # Differences of long sums may end an ulp outside the range of a rate.
    return np.asarray(np.clip((sums[ends] - sums[starts]) / np.maximum(ends - starts, 1), 0.0, 1.0))


def _expected(chosen: NDArray[np.float64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Estimate a rate from few tokens, never 0: Laplace's rule of succession."""
    return (chosen + 1) / (tokens + 2)


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
