from __future__ import annotations

import json

import pytest

from longlens.bench.figure import curves, figure_from_json
from longlens.errors import FormatError
from tests.bench.small_records import figure


def test_one_disturbed_sample_moves_neither_median_nor_deviation() -> None:
    quiet, disturbed = figure(values=(98, 99, 100, 101, 102)), figure(values=(98, 99, 100, 101, 5))
    assert quiet.median == 100
    assert quiet.deviation == 1
    assert disturbed.median == 99
    assert disturbed.deviation == 1


def test_cores_are_processor_seconds_a_second() -> None:
    assert figure().cpu_per_wall == 2.0


def test_more_is_better_for_rates_only() -> None:
    assert figure().is_more_better
    assert not figure(unit="s").is_more_better


def test_a_figure_survives_json() -> None:
    made = figure("tg128 @ d4096", (1.5, 2.25, 3, 4, 5))
    assert figure_from_json(json.loads(json.dumps(made.as_json()))) == made


@pytest.mark.parametrize(
    "change",
    [{"name": 5}, {"values": [1.0]}, {"values": "x"}, {"depth": None}, {"values": [], "wall_s": [], "cpu_s": []}],
)
def test_a_damaged_figure_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        figure_from_json({**figure().as_json(), **change})


def test_a_missing_field_is_refused_by_name() -> None:
    content = figure().as_json()
    del content["digest"]
    with pytest.raises(FormatError, match="digest"):
        figure_from_json(content)


def test_curves_join_depths_of_one_kind() -> None:
    deep, shallow, other = figure("pp512 @ d64"), figure("pp512"), figure("tg8")
    assert curves([deep, shallow, other]) == {("pp512", "tok/s"): [shallow, deep], ("tg8", "tok/s"): [other]}
