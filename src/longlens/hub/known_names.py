"""Names of models that were published somewhere and are on no hub, and what is meant by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from longlens.errors import ModelNotFoundError
from longlens.machine import Machine
from longlens.units import format_bytes

_BYTES_A_PARAMETER = 2


@dataclass(frozen=True)
class Release:
    """A model as its makers published it. Sizes in decimal GB, as the hub states them."""

    repository: str
    num_parameters: int
    size: str


GLM_5_2 = Release(
    "zai-org/GLM-5.2",
    753_329_940_480,
    "BF16: 1,507 GB in 282 shards; FP8, zai-org/GLM-5.2-FP8: 755.6 GB in 141 shards",
)
# An article names it; GLM-5.2 has one size, and Z.ai's organisation is called zai-org.
_MEANT: Mapping[str, Release] = MappingProxyType({"z-ai/glm-5.2-64b-gguf": GLM_5_2})


def refuse_known_mistake(repository: str, detect: Callable[[], Machine]) -> None:
    """Say so, without a network, when a name is known to lead nowhere.

    Args:
        repository: "organisation/name".
        detect: describes this machine; it is called only if the name is known.

    Raises:
        ModelNotFoundError: the name is known; what is meant, its size and what the machine holds are said.
    """
    release = _MEANT.get(repository.lower())
    if release is None:
        return
    raise ModelNotFoundError(
        f"{repository} does not exist: the model is {release.repository}, {release.num_parameters:,} parameters "
        f"({release.size})",
        describe_room(release, detect()),
    )


def describe_room(release: Release, machine: Machine) -> str:
    """Compare a model with what a machine can hold, in a sentence.

    Weights are counted as 2 bytes a parameter on one device, which is how they are held today.
    """
    gpus = ", ".join(f"{gpu.name} with {format_bytes(gpu.memory_total_bytes)}" for gpu in machine.gpus) or "no GPU"
    room = max([machine.memory_available_bytes, *(gpu.memory_free_bytes for gpu in machine.gpus)])
    largest = room / _BYTES_A_PARAMETER
    fits = "which holds it" if largest >= release.num_parameters else "too little for it"
    return (
        f"this machine has {format_bytes(machine.memory_total_bytes)} of memory "
        f"({format_bytes(machine.memory_available_bytes)} free) and {gpus}: {fits}; it runs models up to about "
        f"{_billions(largest)} parameters (2 bytes each, on one device): get one with longlens pull ORG/REPO"
    )


def _billions(count: float) -> str:
    return f"{count / 1e9:,.1f} billion" if count >= 1e9 else f"{count / 1e6:,.0f} million"
