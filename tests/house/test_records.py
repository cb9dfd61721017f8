"""The rules for records, applied to benchmarks/results."""

from __future__ import annotations

import json

import pytest

from tests.house import record_rules, tree_rules
from tests.house.tree_rules import REPOSITORY

RECORDS = [
    name
    for name in tree_rules.repository_files()
    if name.startswith("benchmarks/results/") and name.endswith((".json", ".jsonl"))
]

# Changed after they were added, before there was this rule; by record, the commits that may have done it, and why.
CHANGED_BEFORE = {
    "benchmarks/results/epyc-2-cores/2026-11-24-pocket.json": {
        "6941a3c2bff05ed743d22d0ac7ff48915c289a2d": "the demo was made again after the pack had changed"
    },
}


def test_there_are_records() -> None:
    assert len(RECORDS) >= 3


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_says_what_it_is(name: str) -> None:
    lines = (REPOSITORY / name).read_text().splitlines() if name.endswith(".jsonl") else None
    for text in lines or [(REPOSITORY / name).read_text()]:
        record = json.loads(text)
        assert record_rules.misnamed(name, record) == []
        assert record_rules.missing_facts(record) == []
        assert record_rules.medians_without_samples(record) == []


def test_a_record_is_added_and_never_edited() -> None:
    # A shallow clone and a copy without git have no history to ask; a skip there would fail in continuous integration.
    changed = record_rules.changed_records(REPOSITORY) or {}
    left = {name: sorted(set(commits) - set(CHANGED_BEFORE.get(name, {}))) for name, commits in changed.items()}
    assert {name: commits for name, commits in left.items() if commits} == {}
