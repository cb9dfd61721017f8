"""Every number in README.md comes from a record, a file or the code, or is allowed by name."""

from __future__ import annotations

import tomllib

from tests.house import figure_rules
from tests.house.figure_rules import Allowed, Figure
from tests.house.tree_rules import REPOSITORY

PAGE = (REPOSITORY / "README.md").read_text()
TABLES = tomllib.loads((REPOSITORY / "benchmarks/figures.toml").read_text())
FIGURES = [Figure(**entry) for entry in TABLES["figure"]]
ALLOWED = [Allowed(**entry) for entry in TABLES["allowed"]]
FACTS = {source: figure_rules.facts_of(source, REPOSITORY) for source in {figure.source for figure in FIGURES}}


def test_every_figure_is_what_its_source_says() -> None:
    assert figure_rules.misprints(PAGE, FIGURES, FACTS) == []


def test_no_number_is_without_a_source() -> None:
    assert figure_rules.untied(PAGE, FIGURES, ALLOWED, FACTS) == []


def test_every_exemption_is_used() -> None:
    assert figure_rules.stale(PAGE, ALLOWED) == []


def test_every_record_that_figures_come_from_is_linked() -> None:
    assert figure_rules.unlinked(PAGE, FIGURES) == []


def test_the_page_has_figures_that_come_from_records() -> None:
    assert len([figure for figure in FIGURES if figure.source.startswith("benchmarks/results/")]) > 5
