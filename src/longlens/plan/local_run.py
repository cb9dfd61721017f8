"""One model on one machine, at a glance: where its bytes lie, how long it takes, and the command that comes next."""

from __future__ import annotations

from functools import cache

from longlens.errors import CapacityError
from longlens.model.config import ModelConfig
from longlens.plan.advise import LocalRun
from longlens.plan.cost import Prediction, is_measured, predict
from longlens.plan.hardware import THIS_MACHINE, Hardware
from longlens.plan.packed import has_library
from longlens.plan.plan import Plan
from longlens.plan.presets import MODEL_PRESETS, ModelPreset
from longlens.plan.profile import MachineProfile, profile_of_hardware
from longlens.plan.proposal import Proposal, longest_context, propose_plan
from longlens.plan.table_hardware import GOOD_CONTEXT, Fit
from longlens.plan.table_ttft import Waiting
from longlens.units import format_bytes

_PLACES = {"gpu": "in GPU memory", "ram": "in RAM", "disk": "on disk"}


def fit_on(preset: ModelPreset, hardware: Hardware, file_type: str, context: int) -> Fit:
    """One cell of the hardware matrix."""
    most = _longest(preset.config, hardware, file_type)
    if context > most:
        return Fit(most)
    plan = propose_plan(preset.config, preset.title, hardware, Proposal(context=context, file_type=file_type))
    gpu, ram, disk = (plan.tiers.get(name, 0) for name in ("gpu", "ram", "disk"))
    return Fit(most, True, gpu, ram, disk, tuple(plan.not_built))


def waiting_on(preset: ModelPreset, hardware: Hardware, context: int) -> Waiting | None:
    """One row of the table of waiting, with one file for all contexts; None where it does not fit, or without peaks."""
    config = preset.config
    usual = _usual_plan(config, hardware)
    if hardware.peaks is None or usual is None:
        return None
    kind = usual.file_type
    if context > _longest(config, hardware, kind):
        return None
    plan = propose_plan(config, preset.title, hardware, Proposal(context=context, file_type=kind))
    found = predict(config, plan, profile_of_hardware(hardware), prompt_tokens=context)
    return Waiting(
        file_type=kind or plan.compute_element,
        has_weights_on_disk=bool(plan.tiers.get("disk")),
        cold_s=found.ttft_cold_s,
        memory_s=found.ttft_memory_s,
        disk_s=found.ttft_disk_s,
        decode_tokens_per_s=found.decode_tokens_per_s,
    )


def local_run(
    preset: ModelPreset, hardware: Hardware, profile: MachineProfile | None, context: int, num_sequences: int = 1
) -> LocalRun:
    """What the advice needs to know of a model on a machine.

    Args:
        preset: the model.
        hardware: the machine.
        profile: how fast it is; None: not known.
        context: tokens of the longest sequence; cut to what the model reads.
        num_sequences: sequences of that length at once.
    """
    context = min(context, preset.config.max_position_embeddings)
    try:
        proposal = Proposal(context=context, num_sequences=num_sequences, has_native_kernels=has_library())
        plan = propose_plan(preset.config, preset.title, hardware, proposal)
    except CapacityError as error:
        why = f"{error.fault}; {error.mend}"
        return LocalRun(preset.title, hardware.name, hardware.title, context, fault=why)
    found = _prediction(preset.config, plan, profile)
    return LocalRun(
        model=preset.title,
        machine=hardware.name,
        hardware=hardware.title,
        context=context,
        places=_places(plan),
        moves=tuple(plan.moves),
        not_built=tuple(plan.not_built),
        ttft_cold_s=None if found is None else found.ttft_cold_s,
        ttft_memory_s=None if found is None else found.ttft_memory_s,
        decode_tokens_per_s=None if found is None else found.decode_tokens_per_s,
        command=_command(preset, hardware, plan),
    )


@cache
def _usual_plan(config: ModelConfig, hardware: Hardware) -> Plan | None:
    """The plan for a usual context, which decides on the file."""
    context = min(GOOD_CONTEXT, config.max_position_embeddings)
    try:
        return propose_plan(config, "", hardware, Proposal(context=context))
    except CapacityError:
        return None


@cache
def _longest(config: ModelConfig, hardware: Hardware, file_type: str | None) -> int:
    return longest_context(config, hardware, Proposal(file_type=file_type))


def _prediction(config: ModelConfig, plan: Plan, profile: MachineProfile | None) -> Prediction | None:
    if profile is None or not is_measured(plan, profile):
        return None
    return predict(config, plan, profile, prompt_tokens=plan.context)


def _places(plan: Plan) -> str:
    return ", ".join(f"{format_bytes(size)} {_PLACES[tier]}" for tier, size in plan.tiers.items())


def _command(preset: ModelPreset, hardware: Hardware, plan: Plan) -> str:
    """Start it if it can run; else show its plan."""
    model = preset.name if preset.name in MODEL_PRESETS else preset.source
    if plan.not_built:
        machine = "" if hardware.name == THIS_MACHINE else f" --hardware {hardware.name}"
        return f"longlens plan {model} -c {plan.context}{machine}"
    model = preset.repositories[0] if preset.repositories else model
    return f'longlens ask -m {model} -c {plan.context} . "QUESTION"'
