from __future__ import annotations

import json

import pytest

from longlens.bench.plot import picture_of
from longlens.errors import UsageError
from tests.bench.small_records import figure, record


def test_a_curve_has_its_depths_in_order_and_the_spread_around_each_median() -> None:
    deep = figure("pp512 @ d64", (40, 50, 60, 50, 50))
    (panel,) = picture_of({"a": record(deep, figure("pp512"))}).panels
    (line,) = panel.lines
    assert (line.name, line.depths, line.medians) == ("pp512", (0, 64), (100, 50))
    assert (line.below, line.above) == ((1, 10), (2, 10))


def test_each_unit_has_a_panel() -> None:
    panels = picture_of({"a": record(figure("pp512"), figure("ttft8", unit="s"))}).panels
    assert [panel.unit for panel in panels] == ["tok/s", "s"]


def test_several_records_are_named_in_the_legend() -> None:
    (panel,) = picture_of({"a": record(), "b": record()}).panels
    assert [line.name for line in panel.lines] == ["pp512 (a)", "pp512 (b)"]


def test_depths_far_apart_are_drawn_by_factors_unless_one_is_zero() -> None:
    wide = [figure("tg8 @ d1024"), figure("tg8 @ d8192")]
    assert picture_of({"a": record(*wide)}).panels[0].has_log_depths
    assert not picture_of({"a": record(figure("tg8"), *wide)}).panels[0].has_log_depths


def test_a_picture_is_plain_values() -> None:
    assert json.loads(json.dumps(picture_of({"a": record()}).as_json()))["panels"][0]["unit"] == "tok/s"


def test_no_records_are_no_picture() -> None:
    with pytest.raises(UsageError, match="no figures"):
        picture_of({})
