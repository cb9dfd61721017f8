from __future__ import annotations

import json
from pathlib import Path

import pytest

from longlens.cli.plan_score import print_score
from longlens.plan.score import Outcome, append_outcome


def test_median_and_90th_percentile_are_printed_for_each_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for measured in (8.0, 10.0, 12.5):
        append_outcome(tmp_path, Outcome("2026-11-24", "m", "cpu", 10, 0, 1, 10.0, measured))
    print_score(tmp_path, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ttft    median error 20.0%")
    assert lines[0].endswith("3 runs")
    assert lines[1] == "decode  no run"


def test_the_json_has_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_outcome(tmp_path, Outcome("2026-11-24", "m", "cpu", 10, 0, 1, 10.0, 8.0))
    print_score(tmp_path, as_json=True)
    assert json.loads(capsys.readouterr().out)["ttft"]["num_runs"] == 1
