"""Advice for a model and a machine: the four ways are planned and predicted, then weighed."""

from __future__ import annotations

from dataclasses import dataclass

from longlens.errors import CapacityError
from longlens.plan.advise import Advice, Needs, advise
from longlens.plan.hardware import HARDWARE, Hardware
from longlens.plan.launch import Launch, plan_launch
from longlens.plan.local_run import local_run
from longlens.plan.presets import MODEL_PRESETS, ModelPreset
from longlens.plan.profile import MachineProfile

# Models that longlens runs on small machines, the most able first.
SMALLER_MODELS = ("pocket", "smollm2-135m")
# What is proposed to someone whose machine has no device for the engines.
NODE = "h200-x8"


@dataclass(frozen=True)
class Place:
    """What is wanted, and where it would run.

    Attributes:
        preset: the model that is wanted.
        hardware: the machine.
        profile: how fast it is; None: not known.
    """

    preset: ModelPreset
    hardware: Hardware
    profile: MachineProfile | None = None


def advice_for(needs: Needs, place: Place) -> Advice:
    """Plan and predict the four ways, and weigh them."""
    hardware, profile = place.hardware, place.profile
    smaller = [MODEL_PRESETS[name] for name in SMALLER_MODELS if name != place.preset.name]
    return advise(
        needs,
        local_run(place.preset, hardware, profile, needs.context, needs.users),
        [local_run(preset, hardware, profile, needs.context) for preset in smaller],
        _launch(needs, place),
    )


def _launch(needs: Needs, place: Place) -> Launch | str:
    """On machines of this kind if they can; else on nodes of a kind that can."""
    fault = ""
    for hardware in (place.hardware, HARDWARE[NODE]):
        try:
            return plan_launch(place.preset, hardware, needs.context, needs.users)
        except CapacityError as error:
            fault = fault or error.fault
    return fault
