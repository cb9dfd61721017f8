from __future__ import annotations

import csv
import io
import json

import pytest

from longlens.bench.report import depth_table, format_record, number, table
from tests.bench.small_records import figure, record


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (1234567, "1234567"), (12345.6, "12346"), (123.456, "123.5"), (12.3456, "12.35")),
        *((1.23456, "1.235"), (0.123456, "0.1235"), (0.00123456, "0.001235"), (1e-6, "1e-06"), (1e9, "1e+09")),
    ],
)
def test_numbers_have_four_digits_and_no_exponent_where_people_expect_none(value: float, text: str) -> None:
    assert number(value) == text


def test_the_table_shows_median_spread_cores_and_memory() -> None:
    lines = table([figure(values=(90, 100, 110, 105, 95))]).splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == [
        *("pp512", "cold", "100.0", "tok/s", "90.00", "110.0", "5.000", "5", "2.00", "1.0 GiB"),
        "0123456789abcdef",
    ]
    assert len({len(line) for line in lines}) == 1


def test_depths_stand_below_one_another() -> None:
    shown = depth_table([figure("pp512"), figure("pp512 @ d64", (50, 50, 50, 50, 50)), figure("tg8")])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines()]
    assert rows[0] == ["depth", "pp512, tok/s", "tg8, tok/s"]
    assert rows[2:] == [["0", "100.0", "100.0"], ["64", "50.00", ""]]


def test_a_single_depth_needs_no_second_table() -> None:
    assert depth_table([figure("pp512"), figure("tg8")]) == ""


def test_markdown_says_what_was_run_on_what() -> None:
    text = format_record(record(), "md")
    assert "mid, 886,037,168 parameters" in text
    assert "longlens 0.1.0 at abc, torch 2.13.0" in text


def test_json_is_the_record() -> None:
    assert json.loads(format_record(record(), "json")) == json.loads(json.dumps(record().as_json()))


def test_json_lines_carry_what_each_figure_depends_on() -> None:
    lines = format_record(record(figure("pp512"), figure("tg8")), "jsonl").splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["pp512", "tg8"]
    assert all(json.loads(line)["plan"]["num_threads"] == 2 for line in lines)


def test_csv_has_a_row_for_each_figure_and_all_samples() -> None:
    rows = list(csv.DictReader(io.StringIO(format_record(record(figure("pp512"), figure("tg8")), "csv"))))
    assert [(row["model"], row["name"]) for row in rows] == [("mid", "pp512"), ("mid", "tg8")]
    assert rows[0]["values"] == "100 101 99 100 102"
