from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.plan.table import Column, Table, Unit, format_cell, format_flops, format_seconds, format_tokens
from longlens.units import GIB, KIB, MIB

TABLE = Table(
    "small",
    "a small table",
    (Column("what"), Column("context", "tokens"), Column("size", "bytes"), Column("times", "ratio")),
    (("first, with a comma", 8192, 93 * GIB, 2.7373), ("second", 1_048_576, None, None)),
    ("a note",),
)


def test_text_aligns_its_columns_and_ends_with_the_notes() -> None:
    lines = TABLE.as_text().splitlines()
    assert lines[0] == "a small table"
    assert lines[2].split() == ["what", "context", "size", "times"]
    assert lines[4].split() == ["first,", "with", "a", "comma", "8K", "93.00", "GiB", "2.74x"]
    assert lines[5].split() == ["second", "1M", "-", "-"]
    assert lines[-1] == "* a note"
    assert lines[4].index("8K") + 2 == lines[5].index("1M") + 2 == lines[2].index("context") + len("context")


def test_json_and_csv_hold_the_same_raw_numbers() -> None:
    rows = json.loads(json.dumps(TABLE.as_json()))["rows"]
    read = list(csv.DictReader(io.StringIO(TABLE.as_csv())))
    assert list(read[0]) == ["what", "context [tokens]", "size [bytes]", "times [ratio]"]
    assert [list(row.values()) for row in rows] == [list(row) for row in TABLE.rows]
    assert read[0]["what"] == "first, with a comma"
    assert int(read[0]["size [bytes]"]) == 93 * GIB
    assert float(read[0]["times [ratio]"]) == 2.7373
    assert read[1]["size [bytes]"] == ""


def test_a_row_that_is_too_short_is_an_error() -> None:
    table = Table("t", "t", (Column("a"), Column("b")), (("only one",),))
    with pytest.raises(ValueError, match="zip"):
        table.as_text()


@pytest.mark.parametrize(
    ("cell", "unit", "shown"),
    [
        (None, "flops", "-"),
        ("words", "flops", "words"),
        (5, "text", "5"),
        (284_641_525_760, "flops", "284.6 G"),
        (95_232, "bytes a token", "95,232"),
        (2.5, "ratio", "2.50x"),
        (62.04, "percent", "62.0 %"),
        (0.5, "seconds", "500 ms"),
        (3.456, "tokens/s", "3.46"),
        (5170.4, "tokens/s", "5,170"),
        (200_000, "tokens", "200,000"),
        (512 * MIB, "bytes", "0.50 GiB"),
        (99 * MIB, "bytes", "99.0 MiB"),
    ],
)
def test_a_figure_is_written_in_its_unit(cell: float | str | None, unit: Unit, shown: str) -> None:
    assert format_cell(cell, unit) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0031, "3 ms"), (1.0, "1.0 s"), (119.9, "119.9 s"), (120.0, "2.0 min"), (7200.0, "2.0 h"), (172_800.0, "2.0 d")],
)
def test_a_time_is_written_in_the_unit_that_people_use(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("flops", "shown"),
    [(5e6, "5.0 M"), (1e9, "1.0 G"), (11_470.5e9, "11,470.5 G"), (1e14, "0.1 P"), (201.1e15, "201.1 P")],
)
def test_operations_of_a_token_stay_in_one_unit(flops: float, shown: str) -> None:
    assert format_flops(flops) == shown


@given(st.integers(0, 2**40))
def test_a_context_can_be_read_back(tokens: int) -> None:
    shown = format_tokens(tokens)
    unit = {"K": KIB, "M": MIB}.get(shown[-1], 1)
    assert int(shown.rstrip("KM").replace(",", "")) * unit == tokens


@given(st.floats(1e-3, 1e7))
def test_a_time_can_be_read_back_within_its_rounding(seconds: float) -> None:
    number, unit = format_seconds(seconds).split()
    scale = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}[unit]
    assert float(number) * scale == pytest.approx(seconds, abs=scale / 2 if unit == "ms" else scale / 20 * 1.001)
