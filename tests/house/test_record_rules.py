"""Every rule about records refuses what it is there to refuse; the last one is tried on small histories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.house import record_rules

WHOLE = {"what": "a", "date": "2026-11-24", "commit": "1234567", "machine": "m", "command": "longlens bench"}
RECORD = "benchmarks/results/m/2026-11-24-a.json"


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A repository in which a record was added."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / RECORD).parent.mkdir(parents=True)
    (tmp_path / RECORD).write_text("{}\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "add")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["benchmarks/results/2026-11-24-a.json", "benchmarks/results/m/a.json", "benchmarks/results/m/2026-11-24-A.json"],
)
def test_a_record_without_machine_or_date_in_its_name_is_refused(name: str) -> None:
    assert len(record_rules.misnamed(name, WHOLE)) == 1


def test_a_record_of_another_day_than_its_name_is_refused() -> None:
    assert record_rules.misnamed(RECORD, WHOLE) == []
    assert len(record_rules.misnamed("benchmarks/results/m/2026-11-25-a.json", WHOLE)) == 1


@pytest.mark.parametrize("key", list(WHOLE))
def test_a_record_that_leaves_something_out_is_refused(key: str) -> None:
    (found,) = record_rules.missing_facts({**WHOLE, key: ""})
    assert found.startswith(key)


def test_a_record_may_state_the_time_of_day_and_describe_its_machine() -> None:
    record = {**WHOLE, "date": "2026-11-24T14:00:00+00:00", "machine": {"cpu_name": "m"}}
    assert record_rules.misnamed(RECORD, record) == []
    assert record_rules.missing_facts(record) == []


def test_a_record_of_the_bench_command_says_the_same_in_its_own_places() -> None:
    record = {"record": 1, "code": {"commit": "1234567"}, "date": "2026-11-24", "machine": {"cpu_name": "m"}}
    record |= {"command": ["longlens", "bench"], "figures": [{"median": 1.0, "values": [1.0]}]}
    assert record_rules.missing_facts(record) == []
    assert record_rules.medians_without_samples(record) == []
    assert len(record_rules.missing_facts({**record, "code": {"commit": None}, "figures": []})) == 2


def test_commands_may_stand_beside_their_results() -> None:
    parts = {key: value for key, value in WHOLE.items() if key != "command"}
    assert record_rules.missing_facts({**parts, "demo": {"command": "longlens ask"}}) == []
    assert record_rules.missing_facts({**parts, "commands": {"one": "longlens ask"}}) == []


@pytest.mark.parametrize("key", ["median", "median_s", "median_tokens_per_s", "median_wall_seconds"])
def test_a_median_without_its_samples_is_refused(key: str) -> None:
    assert record_rules.medians_without_samples({"a": [{key: 1.0}]}) == [f"a.0: {key} without samples"]
    assert len(record_rules.medians_without_samples({key: 1.0, "samples": []})) == 1
    assert record_rules.medians_without_samples({key: 1.0, "samples": [0.9, 1.0, 1.1]}) == []


def test_the_median_of_what_is_no_timing_needs_none() -> None:
    assert record_rules.medians_without_samples({"median_error": 0.1, "decode_s": 0.2}) == []


def test_a_record_that_was_added_once_is_in_order(history: Path) -> None:
    assert record_rules.changed_records(history) == {}


def test_a_record_that_was_edited_or_removed_is_named_with_the_commit(history: Path) -> None:
    (history / RECORD).write_text('{"a": 1}\n')
    git(history, "commit", "--quiet", "--all", "--message", "edit")
    git(history, "rm", "--quiet", RECORD)
    git(history, "commit", "--quiet", "--message", "remove")
    changed = record_rules.changed_records(history)
    assert changed is not None
    assert list(changed) == [RECORD]
    assert [len(commit) for commit in changed[RECORD]] == [40, 40]


def test_an_edit_that_is_not_committed_counts(history: Path) -> None:
    (history / RECORD).write_text('{"a": 1}\n')
    assert record_rules.changed_records(history) == {RECORD: [""]}


def test_a_record_under_another_name_counts_as_removed(history: Path) -> None:
    git(history, "mv", RECORD, RECORD.replace("-a", "-b"))
    git(history, "commit", "--quiet", "--message", "rename")
    assert list(record_rules.changed_records(history) or {}) == [RECORD]


def test_pages_beside_records_may_change(history: Path) -> None:
    page = history / "benchmarks/results/README.md"
    for content in ("a", "b"):
        page.write_text(content)
        git(history, "add", ".")
        git(history, "commit", "--quiet", "--message", content)
    assert record_rules.changed_records(history) == {}


def test_without_history_nothing_is_claimed(tmp_path: Path, history: Path) -> None:
    shallow = tmp_path / "shallow"
    git(history, "clone", "--quiet", "--depth", "1", f"file://{history}", str(shallow))
    assert record_rules.changed_records(shallow) is None
