"""A result prints speed, CPU time, agreement and verdict in one place, and its record keeps the raw samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import report
from benchmarks.peers.agreement import Agreement
from benchmarks.peers.quiet import QuietFigure, Subject
from benchmarks.peers.timing import Sample
from benchmarks.peers.workload import Workload
from tests.house import record_rules

QUIET = QuietFigure(Subject("m", "a.gguf", "00", "llama.cpp", "pp512"), (250.0, 256.0, 260.0), "2026-11-24", {})
RESULT = report.Result(
    Workload("prefill", 512), [Sample(1.0, 1.9)] * 3, [Sample(2.0, 3.8)] * 3, Agreement(64, 0.98, 1e-3, 1e-2), QUIET
)
HEADER = report.Header("pocket against llama.cpp", "2026-11-24", "1234567", "m, 2 cores", "python -m ...")


def test_a_line_has_both_speeds_times_ratio_agreement_and_verdict() -> None:
    line = RESULT.line()
    for part in ("512.0 tok/s", "256.0 tok/s", "1.000 s, CPU 1.900 s", "ratio 2.00", "top-1 98%", "| counts"):
        assert part in line


def test_a_result_that_does_not_count_says_so_and_why_on_the_screen_and_in_the_record() -> None:
    slow = replace(RESULT, theirs=[Sample(4.0, 4.0)] * 3)
    assert "not counted" in slow.line()
    assert "50%" in slow.line()
    assert slow.as_json()["counts"] is False
    assert slow.as_json()["not_counted_because"]
    assert "not counted" in replace(RESULT, quiet=None).line()


def test_a_record_holds_to_the_rules_for_records() -> None:
    record = json.loads(json.dumps(report.record(HEADER, {"longlens": {}}, [1, 2], [RESULT.as_json()])))
    assert record_rules.missing_facts(record) == []
    assert record_rules.medians_without_samples(record) == []
    assert record["results"][0]["peer"]["samples"] == [{"wall_s": 2.0, "cpu_s": 3.8}] * 3
    assert record["results"][0]["ratio"]["samples"] == [2.0] * 3
    assert record["results"][0]["quiet_tokens_per_s"] == 256.0


def test_records_of_other_tokens_are_told_apart() -> None:
    digests = {report.record(HEADER, {}, ids, [])["token_ids_sha256"] for ids in ([1, 2], [1, 3], [1, 2])}
    assert len(digests) == 2


def test_a_record_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "m/2026-11-24-a.json"
    report.write(path, {"what": "a"})
    with pytest.raises(FileExistsError):
        report.write(path, {"what": "b"})
    assert json.loads(path.read_text()) == {"what": "a"}
