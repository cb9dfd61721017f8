from __future__ import annotations

import pytest

from benchmarks.time_prediction import Mark, sample, spread, usual_seconds


def samples(*waited: float) -> list[dict[str, object]]:
    """Stretches of one second a token more each, of which some part was spent waiting for a core."""
    return [
        sample(Mark(0, 0, 0, 0), Mark(number, number, share * number, 40), 1)
        for number, share in enumerate(waited, start=1)
    ]


def test_a_stretch_is_told_a_token() -> None:
    found = sample(Mark(1.0, 0.5, 0.0, 10), Mark(3.0, 2.5, 0.1, 50), 8)
    assert found["seconds"] == 0.25
    assert found["processor_s"] == 0.25
    assert found["page_faults"] == 5
    assert found["waited_share"] == pytest.approx(0.05)
    assert not found["is_disturbed"]


def test_the_median_is_that_of_the_undisturbed_where_there_are_enough() -> None:
    assert usual_seconds(samples(0, 0, 0.5, 0.5)) == 1.5
    assert usual_seconds(samples(0, 0.5, 0.5, 0.5)) == 2.5


def test_disturbed_samples_stay_in_the_record() -> None:
    found = spread(samples(0, 0.5, 0))
    assert found["num_disturbed"] == 1
    assert found["median_of_all_s"] == 2
    assert len(found["samples"]) == 3
