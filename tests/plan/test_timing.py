from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longlens.errors import UsageError
from longlens.plan.cost import predict
from longlens.plan.hardware import HARDWARE
from longlens.plan.plan import Plan
from longlens.plan.planner import Wishes, make_plan
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.profile import MachineProfile, profile_of_hardware, profile_path, write_profile
from longlens.plan.proposal import Proposal, propose_plan
from longlens.plan.timing import NOT_MEASURED, NOT_PREDICTED, format_wait, with_kept_profile, with_times
from tests.plan.rates_by_hand import plain_rates
from tests.plan.test_planner import MACHINE, tiny

PROFILE = MachineProfile("a machine", "2026-11-24", "cpu", 2, "by hand", plain_rates())


def planned() -> Plan:
    return replace(make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes()), time_note=NOT_MEASURED)


def test_without_a_profile_the_plan_says_what_to_do() -> None:
    plan = with_times(tiny(), planned(), None)
    assert plan.decode_tokens_per_s is None
    assert "--probe" in plan.time_note


def test_a_probe_is_not_advised_where_it_would_not_help(tmp_path: Path) -> None:
    native = replace(planned(), kernels="native")
    assert with_kept_profile(tiny(), native, tmp_path).time_note == NOT_PREDICTED
    assert with_times(tiny(), native, None).time_note == NOT_PREDICTED
    assert with_times(tiny(), replace(native, time_note="no peaks"), None).time_note == "no peaks"


def test_with_measured_rates_there_are_times() -> None:
    plan = with_times(tiny(), planned(), PROFILE)
    assert plan.ttft_s["cold"] is not None
    assert plan.decode_tokens_per_s is not None
    assert "2026-11-24" in plan.time_note


def test_kernels_that_do_not_exist_get_no_times_from_measured_ones() -> None:
    plan = with_times(tiny(), replace(planned(), not_built=("packed weights",)), PROFILE)
    assert plan.decode_tokens_per_s is None
    assert "not predicted" in plan.time_note


def test_limits_are_told_for_what_is_not_built() -> None:
    hardware = HARDWARE["h200-x8"]
    config = MODEL_PRESETS["glm-5.2"].config
    plan = propose_plan(config, "glm-5.2", hardware, Proposal(file_type="fp8"))
    timed = with_times(config, plan, profile_of_hardware(hardware))
    assert timed.not_built
    assert timed.decode_tokens_per_s is not None
    assert "limits" in timed.time_note


def test_a_kept_profile_is_used_and_a_missing_or_damaged_one_is_told(tmp_path: Path) -> None:
    assert with_kept_profile(tiny(), planned(), tmp_path).time_note == NOT_MEASURED
    write_profile(profile_path(tmp_path, "cpu"), PROFILE)
    assert with_kept_profile(tiny(), planned(), tmp_path).decode_tokens_per_s is not None
    profile_path(tmp_path, "cpu").write_text("{}")
    assert "--probe" in with_kept_profile(tiny(), planned(), tmp_path).time_note


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.207, "207 ms"), (52.94, "52.9 s"), (724, "12 min 4 s"), (11_100, "3 h 5 min")]
)
def test_a_wait_is_written_as_people_say_it(seconds: float, text: str) -> None:
    assert format_wait(seconds) == text


def test_rates_of_plain_torch_foretell_nothing_of_c_kernels() -> None:
    native = replace(planned(), kernels="native")
    timed = with_times(tiny(), native, PROFILE)
    assert timed.decode_tokens_per_s is None
    assert "C++ kernels have not been measured" in timed.time_note
    with pytest.raises(UsageError, match="C\\+\\+ kernels") as caught:
        predict(tiny(), native, PROFILE, prompt_tokens=10)
    assert "--kernels plain" in caught.value.mend
