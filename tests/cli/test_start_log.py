from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longlens.chat.opening import Opening, open_model
from longlens.chat.request import finished
from longlens.cli.model_options import ModelWishes
from longlens.cli.plan_report import prediction_line
from longlens.cli.start_log import end_line, pressure_line, start_lines
from longlens.machine import MemoryPressure
from longlens.plan.planner import Wishes
from longlens.plan.profile import profile_path, write_profile
from longlens.plan.timing import NOT_MEASURED
from tests.chat.test_request import RECORD
from tests.cli.terminal import TINY
from tests.plan.rates_by_hand import plain_profile

WISHES = ModelWishes(TINY, "cpu", None, 200, None, None, None, "auto", None, is_strict=False)


def test_swap_is_none_or_its_size_or_unknown() -> None:
    assert pressure_line("now", MemoryPressure(0, 3)) == "swap: none, major faults 3 (now)"
    assert pressure_line("now", MemoryPressure(2**20, 3)) == "swap: 1.0 MiB, major faults 3 (now)"
    assert pressure_line("now", MemoryPressure(None, None)) == "swap: unknown, major faults unknown (now)"


def test_the_end_says_what_was_read_and_what_was_cached() -> None:
    line = end_line(finished(RECORD, 0.0))
    assert "prompt 10 tokens, 4 cached, 6 read at 12.0 tok/s" in line
    assert "answer 3 tokens at 12.0 tok/s; stop" in line


def test_an_answer_without_tokens_has_no_first_token() -> None:
    silent = replace(RECORD, completion_tokens=0, ttft_s=None)
    assert "no token; answer 0 tokens; stop" in end_line(finished(silent, 0.0))


def test_the_plans_prediction_is_a_line_of_the_start_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = open_model(Opening(TINY, "cpu", Wishes(context=200), kernels="plain"))
    lines = list(start_lines(opened, WISHES))
    assert prediction_line(replace(opened.plan, time_note=NOT_MEASURED)) in lines
    write_profile(profile_path(tmp_path / "longlens", "cpu"), plain_profile())
    assert any(line.startswith("plan: ") and line.endswith("tok/s") for line in start_lines(opened, WISHES))
