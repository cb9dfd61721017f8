"""Figures are written out from their sources, and a number that none of them wrote is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.house import figure_rules
from tests.house.figure_rules import Allowed, Figure

FACTS: dict[str, Any] = {"a.json": {"tokens": 20265, "share": 0.99241, "runs": [{"seconds": 540.4}], "said": "x:50"}}


def text(template: str) -> str:
    return figure_rules.write(template, FACTS["a.json"]).text


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("reads {tokens:,} tokens", "reads 20,265 tokens"),
        ("{share:.1 %} of them", "99.2 % of them"),
        ("{share:.1%}", "99.2%"),
        ("{tokens:.3M} million", "0.020 million"),
        ("{runs.-1.seconds/60:words} minutes", "nine minutes"),
        ("{tokens/runs.0.seconds:.2f} tok/s", "37.50 tok/s"),
        ("says\n  {said}", "says x:50"),
    ],
)
def test_a_field_is_written_as_its_format_says(template: str, written: str) -> None:
    assert text(template) == written


@pytest.mark.parametrize("path", ["gone", "runs.1.seconds", "runs.first", "tokens.more"])
def test_a_path_that_leads_nowhere_is_reported_with_its_source(path: str) -> None:
    (found,) = figure_rules.misprints("page", [Figure("a.json", f"{{{path}}}")], FACTS)
    assert path in found
    assert "a.json" in found


def test_a_figure_over_a_line_break_and_a_link_is_found() -> None:
    page = "It reads 20,265\n   tokens ([record](a.json)) of\nit."
    figure = Figure("a.json", "reads {tokens:,} tokens ([record]) of it")
    assert figure_rules.misprints(page, [figure], FACTS) == []
    assert figure_rules.untied(page, [figure], [], FACTS) == []


def test_a_figure_that_says_something_else_than_its_record_is_refused() -> None:
    figure = Figure("a.json", "reads {tokens:,} tokens")
    (found,) = figure_rules.misprints("reads 20,266 tokens", [figure], FACTS)
    assert "'reads 20,265 tokens'" in found
    assert figure_rules.untied("reads 20,266 tokens", [figure], [], FACTS) != []


def test_a_figure_that_stands_in_two_places_is_refused() -> None:
    assert len(figure_rules.misprints("20265, 20265", [Figure("a.json", "{tokens}")], FACTS)) == 1


@pytest.mark.parametrize(
    "page", ["at 493.4 tok/s", "about 7 of them", "12%", "file.py:31", "1K tokens", "| 0.753 |", "nine minutes", "x=16"]
)
def test_a_number_that_is_tied_to_nothing_is_refused(page: str) -> None:
    (found,) = figure_rules.untied(page, [], [], FACTS)
    assert "tied to no record" in found


@pytest.mark.parametrize("page", ["one H100", "Q8_0", "GLM-5.2-class", "GGUF v2/v3", "[a](b-7.json)", "two cores"])
def test_names_with_digits_and_targets_of_links_are_no_figures(page: str) -> None:
    assert figure_rules.untied(page, [], [], FACTS) == []


def test_the_fixed_words_of_a_figure_cover_no_number() -> None:
    figure = Figure("a.json", "{tokens:,} tokens in 41 s")
    (found,) = figure_rules.untied("20,265 tokens in 41 s", [figure], [], FACTS)
    assert found.startswith("'41'")


def test_an_exemption_covers_its_own_words_and_must_be_used_and_explained() -> None:
    page = "Python 3.11 or newer, 3.12 too"
    assert len(figure_rules.untied(page, [], [Allowed("Python 3.11", "requires-python")], FACTS)) == 1
    assert figure_rules.stale(page, [Allowed("Python  3.11", "requires-python")]) == []
    assert len(figure_rules.stale(page, [Allowed("Python 3.9", "old"), Allowed("3.12", " ")])) == 2


def test_a_record_that_is_not_linked_is_refused() -> None:
    figures = [Figure("benchmarks/results/m/a.json", "{x}"), Figure("longlens", "{version}")]
    assert figure_rules.unlinked("[record](benchmarks/results/m/a.json)", figures) == []
    assert len(figure_rules.unlinked("no link", figures)) == 1


def test_a_record_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"x": 1}))
    assert figure_rules.facts_of("a.json", tmp_path) == {"x": 1}
