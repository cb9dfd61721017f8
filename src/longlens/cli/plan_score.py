"""`longlens plan --score`: how far predictions were from what runs took."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from longlens.plan.score import MEASURES, Outcome, read_outcomes, score


def print_score(folder: Path, *, as_json: bool) -> None:
    """Write the score of all outcomes in the cache folder to stdout.

    Raises:
        FormatError: they are there and cannot be read.
    """
    outcomes = read_outcomes(folder)
    if as_json:
        json.dump({measure: asdict(score(outcomes, measure)) for measure in MEASURES}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        sys.stdout.write("\n".join(score_lines(outcomes)) + "\n")


def score_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """How far predictions were from what runs took: median and 90th percentile."""
    for measure in MEASURES:
        found = score(outcomes, measure)
        if found.median_error is None or found.p90_error is None:
            yield f"{measure:<8}no run"
        else:
            runs = "1 run" if found.num_runs == 1 else f"{found.num_runs} runs"
            yield f"{measure:<8}median error {found.median_error:.1%}, 90th percentile {found.p90_error:.1%}, {runs}"
