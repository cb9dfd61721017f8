"""Which lines two versions of a file share, in order; and from that the hunks of a diff and the way of a line."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

CONTEXT_LINES = 3
# difflib may need time in the product of both lengths; beyond this, all between the common ends counts as changed.
_MOST_LINE_PAIRS = 200_000_000


class Run(NamedTuple):
    """Lines that two versions share: `size` lines from line `old` and from line `new`, counted from 0."""

    old: int
    new: int
    size: int


class Change(NamedTuple):
    """Old lines that gave way to new ones, counted from 0, ends excluded."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def match_lines(old: Sequence[bytes], new: Sequence[bytes]) -> tuple[Run, ...]:
    """Return the runs of lines that both versions share: ascending in both, none empty, none touching the next."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    most_tail = shorter - head
    tail = next((at for at in range(most_tail) if old[-1 - at] != new[-1 - at]), most_tail)
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    runs = [Run(0, 0, head)]
    if middle_old and middle_new and len(middle_old) * len(middle_new) <= _MOST_LINE_PAIRS:
        blocks = SequenceMatcher(None, middle_old, middle_new).get_matching_blocks()
        runs += [Run(head + block.a, head + block.b, block.size) for block in blocks]
    runs.append(Run(len(old) - tail, len(new) - tail, tail))
    return _joined(run for run in runs if run.size)


def changes(runs: Sequence[Run], num_old: int, num_new: int) -> list[Change]:
    """Return what lies between the shared runs, for versions of `num_old` and `num_new` lines."""
    found = []
    old = new = 0
    for run in (*runs, Run(num_old, num_new, 0)):
        if (run.old, run.new) != (old, new):
            found.append(Change(old, run.old, new, run.new))
        old, new = run.old + run.size, run.new + run.size
    return found


def hunks(found: Iterable[Change]) -> list[list[Change]]:
    """Group changes whose context of three lines on each side would touch."""
    groups: list[list[Change]] = []
    for change in found:
        if groups and change.old_start - groups[-1][-1].old_end <= 2 * CONTEXT_LINES:
            groups[-1].append(change)
        else:
            groups.append([change])
    return groups


def follow(runs: Sequence[Run], line: int) -> int | None:
    """Return where an old line (from 0) is in the new version, or None if it is gone."""
    at = bisect_right(runs, line, key=lambda run: run.old) - 1
    if at < 0 or line >= runs[at].old + runs[at].size:
        return None
    return runs[at].new + line - runs[at].old


def _joined(runs: Iterable[Run]) -> tuple[Run, ...]:
    joined: list[Run] = []
    for run in runs:
        last = joined[-1] if joined else None
        if last is not None and (last.old + last.size, last.new + last.size) == (run.old, run.new):
            joined[-1] = Run(last.old, last.new, last.size + run.size)
        else:
            joined.append(run)
    return tuple(joined)
