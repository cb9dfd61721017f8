from __future__ import annotations

import json
from pathlib import Path

import pytest

from longlens.bench.record import read_record
from longlens.errors import UsageError
from tests.cli.bench_words import bench


@pytest.fixture(autouse=True)
def one_step_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longlens.bench.attention.LEAST_SAMPLE_SECONDS", 0.0)


def test_the_record_has_every_kind_by_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    words = ("--geometry", "pocket", "--layers", "2", "-d", "64,128", "-q", "-o", "json", "--output", str(path))
    assert bench("attention", *words) == 0
    record = read_record(path)
    assert json.loads(capsys.readouterr().out)["figures"][0]["name"] == "attention gqa q1 @ d64"
    assert [figure.depth for figure in record.figures] == [64, 128] * 4
    assert record.settings["layers"] == 2
    assert record.command[2] == "attention"


def test_one_kind_can_be_measured_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("attention", "--geometry", "pocket", "--kind", "dsa", "-d", "64", "-q", "-o", "jsonl") == 0
    assert [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()] == ["attention dsa q1"]


@pytest.mark.parametrize("words", [("-d", "8-4"), ("--geometry", "smollm2-135m"), ("--geometry", "none"), ("-r", "0")])
def test_what_cannot_be_measured_is_wrong_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        bench("attention", *words, "-q")
