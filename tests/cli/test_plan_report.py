from __future__ import annotations

from dataclasses import replace

from longlens.cli.plan_report import plan_lines, prediction_line
from longlens.plan.hardware import HARDWARE, hardware_of
from longlens.plan.planner import Wishes, make_plan
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.proposal import Proposal, propose_plan
from longlens.units import format_bytes
from tests.plan.test_planner import MACHINE, tiny

TIMED = {"cold": 12.3, "memory": 0.5, "disk": None}


def test_the_start_log_line_has_memory_and_the_reason_for_no_time() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes())
    line = prediction_line(replace(plan, time_note="not measured"))
    assert line == f"plan: {format_bytes(plan.total_bytes)} of memory at most; time: not measured"


def test_the_start_log_line_has_times_where_there_are_some() -> None:
    plan = replace(make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes()), ttft_s=TIMED, decode_tokens_per_s=9.87)
    assert prediction_line(plan).endswith("a full context is read in 12.3 s, then 9.9 tok/s")


def test_each_move_and_each_reason_has_a_line() -> None:
    hardware = HARDWARE["rtx-4090-x2"]
    plan = propose_plan(MODEL_PRESETS["glm-5.2"].config, "glm-5.2", hardware, Proposal(context=8192))
    lines = list(plan_lines(plan, hardware))
    assert sum(line.startswith("moved") for line in lines) == len(plan.moves) > 0
    assert sum(line.startswith("not yet") for line in lines) == len(plan.not_built) > 0


def test_several_sequences_are_named() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes(num_sequences=3, context=64))
    assert "3 sequences of 64 tokens" in next(plan_lines(plan, hardware_of(MACHINE, "cpu")))


def test_a_fault_of_the_machine_has_a_line() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes())
    hardware = replace(hardware_of(MACHINE, "cpu"), faults=("the disk could not be probed",))
    assert "fault     the disk could not be probed" in list(plan_lines(plan, hardware))
