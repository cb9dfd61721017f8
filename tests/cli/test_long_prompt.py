from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from longlens.cli import long_prompt
from longlens.cli.interruption import interruptible
from longlens.cli.long_prompt import LONG_PROMPT_TOKENS, agrees_to_wait
from longlens.errors import UsageError
from longlens.plan.hardware import HARDWARE
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.profile import profile_of_hardware, profile_path, write_profile

OPENED: Any = SimpleNamespace(
    config=MODEL_PRESETS["glm-5.2"].config, plan=SimpleNamespace(device="cpu", kernels="plain")
)
LONG = LONG_PROMPT_TOKENS + 1


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def predicted(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(long_prompt, "predict", lambda *_, **__: SimpleNamespace(ttft_cold_s=seconds))


def test_a_prompt_at_the_limit_is_read_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agrees_to_wait(OPENED, LONG_PROMPT_TOKENS, tmp_path, says_yes=False)
    assert capsys.readouterr().err == ""


def test_a_longer_one_needs_somebody_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="500,001 tokens") as caught:
        agrees_to_wait(OPENED, LONG, tmp_path, says_yes=False)
    assert "--yes" in caught.value.mend
    assert "this machine was not measured" in capsys.readouterr().err


def test_yes_tells_the_time_and_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(profile_path(tmp_path, "cpu"), profile_of_hardware(HARDWARE["epyc-12ch"]))
    predicted(monkeypatch, 750.0)
    assert agrees_to_wait(OPENED, LONG, tmp_path, says_yes=True)
    assert "500,001 tokens; the first token of the answer: after about 12.5 min" in capsys.readouterr().err


def test_a_profile_of_other_kernels_tells_no_time_and_keeps_nobody_from_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(profile_path(tmp_path, "cpu"), profile_of_hardware(HARDWARE["epyc-12ch"]))
    monkeypatch.setattr(long_prompt, "is_measured", lambda *_: False)
    assert agrees_to_wait(OPENED, LONG, tmp_path, says_yes=True)
    assert "C++ kernels are not predicted yet" in capsys.readouterr().err


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("says", [True, False])
def test_at_a_terminal_the_answer_decides(says: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, object]]] = []

    def confirm(text: str, **options: object) -> bool:
        asked.append((text, options))
        return says

    monkeypatch.setattr(click, "confirm", confirm)
    assert agrees_to_wait(OPENED, LONG, tmp_path, says_yes=False) is says
    assert asked == [("Read it?", {"default": False, "err": True})]


def test_a_damaged_profile_is_named_and_keeps_nobody_from_reading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile_path(tmp_path, "cpu").write_text("{}")
    assert agrees_to_wait(OPENED, LONG, tmp_path, says_yes=True)
    log = capsys.readouterr().err
    assert "warning: " in log
    assert "is not a machine profile" in log
    assert "not known" in log


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_at_the_question_ends_the_program_and_not_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    monkeypatch.setattr(click, "confirm", interrupted)
    with interruptible() as interruption:
        with pytest.raises(KeyboardInterrupt):
            agrees_to_wait(OPENED, LONG, tmp_path, says_yes=False)
        assert interruption.signal_number is None
        assert signal.getsignal(signal.SIGINT) == interruption.take, "from now on work is asked to stop"
