from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import click
import pytest

import longlens
from longlens.bench.record import read_record
from longlens.errors import CapacityError, LonglensError, UsageError
from tests.cli.bench_words import MODEL, bench
from tests.cli.terminal import TINY

SHORT = (*MODEL, "-p", "8", "-n", "4")


def test_a_record_says_what_was_measured_with_what(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert bench(*SHORT, "-pg", "4,2", "--ttft", "8", "-d", "0,70", "-t", "1", "--output", str(path)) == 0
    record = read_record(path)
    assert [(figure.name, figure.label) for figure in record.figures] == [
        *(("pp8", "cold"), ("tg4", "cold"), ("pp4+tg2", "cold"), ("ttft8", "cold")),
        *(("pp8 @ d70", "warm"), ("tg4 @ d70", "warm"), ("pp4+tg2 @ d70", "warm"), ("ttft8 @ d70", "warm")),
    ]
    assert [figure.cached_tokens for figure in record.figures] == [0] * 4 + [70] * 4
    assert all(len(figure.samples) == 5 for figure in record.figures)
    assert all(figure.memory.peak_rss_bytes for figure in record.figures)
    assert record.model["file_bytes"] == Path(TINY).stat().st_size
    assert record.plan["num_threads"] == 1
    assert record.machine["num_logical_cores"] >= 1
    assert record.settings["warms_up"] is True
    assert record.code["longlens"] == longlens.__version__
    assert record.command[-2:] == ("--output", str(path))


def test_the_same_command_writes_the_same_tokens(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path in paths:
        bench(*SHORT, "--output", str(path))
    first, second = (read_record(path).figures for path in paths)
    assert [figure.digest for figure in first] == [figure.digest for figure in second]


def test_csv_has_a_row_for_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    bench(*SHORT, "-r", "1", "-o", "csv")
    assert [row["name"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["pp8", "tg4"]


def test_few_samples_are_warned_about_and_give_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench(*SHORT, "-r", "1")
    assert "a record needs 5" in capsys.readouterr().err
    with pytest.raises(UsageError, match="a record needs 5 samples"):
        bench(*SHORT, "-r", "4", "--output", str(tmp_path / "a.json"))


def test_a_record_that_exists_is_refused_before_the_model_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("precious")
    with pytest.raises(UsageError, match="never overwritten"):
        bench("-m", str(tmp_path / "no-such-model.gguf"), "--output", str(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("-d", "64", "--label", "cold"), 'pp8 @ d64 is not "cold": 64 tokens were cached'),
        (("--label", "warm"), 'pp8 is not "warm"'),
        (("--label", "after-restart"), "after restart"),
    ],
)
def test_a_label_is_refused_by_name(words: tuple[str, ...], match: str) -> None:
    with pytest.raises(LonglensError, match=match):
        bench(*SHORT, *words)


@pytest.mark.parametrize("words", [("-p", "many"), ("-d", "8-4"), ("-pg", "5"), ("-p", "0", "-n", "0")])
def test_lists_that_cannot_be_read_are_wrong_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        bench(*MODEL, *words)


def test_a_context_that_is_too_short_is_a_fault() -> None:
    with pytest.raises(CapacityError, match="do not fit a context of 32"):
        bench(*SHORT, "-d", "64", "-c", "32")


def test_random_weights_of_a_preset_are_measured_and_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert bench("--synthetic", "pocket", "--synthetic-type", "q4_k_m", "-p", "8", "-n", "2", "-q", "-o", "json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"]["name"], record["plan"]["model"]) == ("pocket", "pocket")
    assert record["model"]["synthetic"].upper() == "Q4_K_M"
    assert list(tmp_path.iterdir()) == []


def test_random_weights_can_be_written_as_a_file_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    assert bench("--synthetic", "pocket", "--synthetic-type", "Q8_0", "--synthetic-file", str(path), "-q") == 0
    before = path.read_bytes()
    with longlens.load(str(path), device="cpu", context=64) as model:
        assert model.config.architecture == "glm_moe_dsa"
    with pytest.raises(UsageError, match="exists"):
        bench("--synthetic", "pocket", "--synthetic-file", str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--synthetic", "mid", "-m", TINY), "two models"),
        (("--synthetic-file", "a.gguf"), "whose weights"),
        (("--synthetic", "mid", "--synthetic-file", "a.bin"), "no .gguf file"),
        (("--synthetic", "mit"), "no preset 'mit'"),
    ],
)
def test_wishes_that_contradict_each_other_are_wrong_usage(words: tuple[str, ...], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        bench(*words, "-q")


def test_a_type_that_does_not_exist_is_wrong_usage() -> None:
    with pytest.raises(click.BadParameter):
        bench("--synthetic", "mid", "--synthetic-type", "Q9_K")


def test_a_preset_that_does_not_fit_is_refused_before_a_weight_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longlens.cli.bench_run.write_synthetic", lambda *_, **__: pytest.fail("weights were made"))
    with pytest.raises(CapacityError):
        bench("--synthetic", "glm-5.2", "-q")
