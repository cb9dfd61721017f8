"""A plan's times: its prediction by a machine's profile, written into the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from longlens.errors import FormatError
from longlens.model.config import ModelConfig
from longlens.plan.cost import is_measured, predict
from longlens.plan.plan import Plan
from longlens.plan.profile import MachineProfile, profile_path, read_profile

NOT_MEASURED = "not measured: run longlens plan --probe"
NOT_PREDICTED = "not predicted: the C++ kernels have not been measured"


def with_times(config: ModelConfig, plan: Plan, profile: MachineProfile | None) -> Plan:
    """Predict a plan's times for a prompt that fills the context.

    Measured rates are those of the plain kernels, so a plan that cannot run yet gets no times from them.

    Args:
        config: the model.
        plan: how it runs; its `time_note` says why there is no profile, if there is none.
        profile: how fast the machine is.
    """
    if profile is None:
        # a probe measures plain torch, so it would not help a plan with other kernels
        is_hopeless = plan.kernels != "plain" and plan.time_note == NOT_MEASURED
        return replace(plan, time_note=NOT_PREDICTED) if is_hopeless else plan
    if profile.kernels == "plain torch" and plan.not_built:
        return replace(plan, time_note="not predicted: kernels that do not exist yet have not been measured")
    if not is_measured(plan, profile):
        return replace(plan, time_note=NOT_PREDICTED)
    found = predict(config, plan, profile, prompt_tokens=plan.context)
    is_limit = profile.kernels == "limit"
    return replace(
        plan,
        ttft_s={"cold": found.ttft_cold_s, "memory": found.ttft_memory_s, "disk": found.ttft_disk_s},
        decode_tokens_per_s=found.decode_tokens_per_s,
        time_note=(
            "limits from published peaks, for kernels that reach stated shares of them"
            if is_limit
            else f"plain kernels, from the profile of {profile.date}"
        ),
    )


def with_kept_profile(config: ModelConfig, plan: Plan, cache_folder: Path) -> Plan:
    """Predict a plan's times by the profile in the cache folder; without one the plan says what to do."""
    path = profile_path(cache_folder, plan.device)
    if not path.is_file():
        return with_times(config, replace(plan, time_note=NOT_MEASURED), None)
    try:
        return with_times(config, plan, read_profile(path))
    except FormatError as error:
        return replace(plan, time_note=f"{error.fault}: run longlens plan --probe")


def format_wait(seconds: float) -> str:
    """Write a time with three digits: `207 ms`, `52.9 s`, `12 min 4 s`, `3 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
