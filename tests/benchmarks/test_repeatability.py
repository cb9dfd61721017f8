from __future__ import annotations

import pytest

from benchmarks.repeatability import summary
from tests.bench.small_records import figure, record


def test_a_median_moves_by_its_distance_from_the_middle_of_all_runs() -> None:
    runs = [record(figure(values=(value,) * 5)) for value in (100.0, 98.0, 105.0, 100.0, 101.0)]
    (row,) = summary(runs)
    assert row["medians"] == [100.0, 98.0, 105.0, 100.0, 101.0]
    assert row["moved"] == pytest.approx(0.05)
    assert row["same_tokens"] is True


def test_runs_that_wrote_other_tokens_are_seen() -> None:
    (row,) = summary([record(figure()), record(figure(digest="f" * 16))])
    assert row["same_tokens"] is False
