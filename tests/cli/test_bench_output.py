from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from longlens.bench.figure import Figure
from longlens.bench.record import read_record
from longlens.cli.bench_output import OutputWishes, take_figures
from longlens.cli.interruption import Interruption
from longlens.errors import CancelledError, UsageError
from tests.bench.small_records import figure, record


def wishes(output: Path | None = None) -> OutputWishes:
    return OutputWishes(repetitions=5, seed=0, report_format="md", output=output, is_quiet=True)


def cut_short() -> Iterator[Figure]:
    yield figure("pp512")
    raise CancelledError("reading stopped", "extend the session")


def test_figures_are_printed_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = iter([figure("pp512"), figure("tg8")])
    code = take_figures(figures, lambda taken: record(*taken), wishes(tmp_path / "a.json"), Interruption())
    assert code == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "pp512" in shown.out
    assert [each.name for each in read_record(tmp_path / "a.json").figures] == ["pp512", "tg8"]


def test_what_was_measured_before_a_stop_is_printed_and_not_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interruption = Interruption()
    interruption.signal_number = signal.SIGTERM
    assert take_figures(cut_short(), lambda taken: record(*taken), wishes(tmp_path / "a.json"), interruption) == 143
    shown = capsys.readouterr()
    assert "pp512" in shown.out
    assert shown.err == "measuring was stopped\nhint: run it again; figures that were printed are whole\n"
    assert list(tmp_path.iterdir()) == []


def test_a_stop_that_no_signal_asked_for_stays_a_fault(tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        take_figures(cut_short(), lambda taken: record(*taken), wishes(), Interruption())


def test_a_record_that_appeared_meanwhile_is_kept_and_the_figures_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    wishes(path).check()
    path.write_text("another's")
    with pytest.raises(UsageError, match="never overwritten"):
        take_figures(iter([figure("pp512")]), lambda taken: record(*taken), wishes(path), Interruption())
    assert path.read_text() == "another's"
    assert "pp512" in capsys.readouterr().out
