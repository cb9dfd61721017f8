"""A plan for any model on any machine, whether it can run yet or not.

What runs today is preferred: one tier of memory, weights expanded or, with C++ kernels, packed. Where that does not
fit, the widest file type is taken
that fits the memory of the machine with its layers placed over the tiers; at last experts go to disk. Each thing
that is not built yet is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from longlens.errors import CapacityError, UsageError
from longlens.model.config import ModelConfig
from longlens.plan.budget import Budget, BudgetRequest, make_budget
from longlens.plan.file_types import FILE_TYPES
from longlens.plan.hardware import HARDWARE
from longlens.plan.hardware_records import Hardware
from longlens.plan.packed import Packed, native_weights, packed_in_file_type
from longlens.plan.placement import Placement, place
from longlens.plan.plan import AS_STORED, CacheFormatName, ComputeElement, Plan
from longlens.plan.planner import (
    ASSUMED_FLOPS_OF_A_GPU,
    ASSUMED_FLOPS_PER_THREAD,
    ASSUMED_PACKED_FLOPS_PER_THREAD,
    DEFAULT_CONTEXT,
    check_trained_length,
    chunk_tokens_for,
    element_for,
    has_packed_weights,
    longest_that_fits,
    not_built_format,
    plan_of,
)
from longlens.units import format_bytes

_EXPANDED: dict[str, ComputeElement] = {"f32": "f32", "bf16": "bf16", "f16": "f16"}
# Tried in this order when no file type is named: published ones, widest first.
_PACKED_TYPES = ("fp8", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
_LEAST_DEFAULT_CONTEXT = 8192
# Of a processor's published peak; used for the size of a chunk only.
_SHARE_OF_PEAK = 0.5


@dataclass(frozen=True)
class Proposal:
    """What is to be planned for; None leaves a decision to the planner.

    Attributes:
        context: most tokens of a sequence.
        num_sequences: sequences of that length.
        file_type: one of `FILE_TYPES`.
        stored: bytes of each class of weights in a file that is there; used instead of `file_type`'s.
        packed: what C++ kernels leave packed of that file.
        has_native_kernels: the C++ kernels are built; they run on processors only.
        cache_format: of cached rows.
        num_threads: threads for arithmetic on this machine; 0 where it is another.
        chunk_tokens: prefill chunks end at multiples of it.
    """

    context: int | None = None
    num_sequences: int = 1
    file_type: str | None = None
    stored: Mapping[str, int] | None = None
    packed: Packed | None = None
    has_native_kernels: bool = False
    cache_format: CacheFormatName | None = None
    num_threads: int = 0
    chunk_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.file_type is not None and self.file_type not in FILE_TYPES:
            raise UsageError(
                f"{self.file_type!r} is not a file type that can be planned for", f"choose {', '.join(FILE_TYPES)}"
            )
        if min(self.num_sequences, self.context or 1, self.chunk_tokens or 1) < 1:
            raise UsageError("context, sequences and chunk must be at least 1", "leave them out to have them chosen")


@dataclass(frozen=True)
class _Candidate:
    """One way to hold the weights at a context, placed."""

    file_type: str | None
    request: BudgetRequest
    placement: Placement

    @property
    def disk_bytes(self) -> int:
        return self.placement.budget.by_tier().get("disk", 0)


def propose_plan(config: ModelConfig, name: str, hardware: Hardware, proposal: Proposal) -> Plan:
    """Plan a model on a machine.

    Args:
        config: the model.
        name: of the model, for people.
        hardware: tiers and what is free in them.
        proposal: what is asked for.

    Returns:
        A plan that fits; `not_built` says what it needs that longlens does not have yet. Times are not predicted.

    Raises:
        ContextLengthError: the context is longer than the model was made for.
        CapacityError: nothing fits; the mend names the nearest plan that does.
    """
    if proposal.context is not None:
        check_trained_length(config, proposal.context)
    chosen = _choose(config, hardware, proposal)
    if chosen is None:
        raise _no_room(config, hardware, proposal)
    return _plan(config, name, hardware, proposal, chosen)


def longest_context(config: ModelConfig, hardware: Hardware, proposal: Proposal) -> int:
    """The longest context that fits with the proposal's file type (or any); 0 if none does."""

    def fits(context: int) -> bool:
        return _choose(config, hardware, replace(proposal, context=context)) is not None

    return longest_that_fits(config.max_position_embeddings, fits)


def _choose(config: ModelConfig, hardware: Hardware, proposal: Proposal) -> _Candidate | None:
    on_disk: _Candidate | None = None
    for context in _contexts(config, proposal):
        for candidate in _candidates(config, hardware, replace(proposal, context=context)):
            if not candidate.placement.fits:
                continue
            if candidate.disk_bytes == 0:
                return candidate
            if on_disk is None or candidate.disk_bytes < on_disk.disk_bytes:
                on_disk = candidate  # every token of an answer waits for them: the fewer, the better
        # A shorter context is no reason to prefer it to what was found already.
        if on_disk is not None:
            return on_disk
    return None


def _contexts(config: ModelConfig, proposal: Proposal) -> Iterator[int]:
    if proposal.context is not None:
        yield proposal.context
        return
    context = min(config.max_position_embeddings, DEFAULT_CONTEXT)
    while True:
        yield context
        if context <= _LEAST_DEFAULT_CONTEXT:
            return
        context = max(context // 2, _LEAST_DEFAULT_CONTEXT)


def _candidates(config: ModelConfig, hardware: Hardware, proposal: Proposal) -> Iterator[_Candidate]:
    for file_type in _file_types(hardware, proposal):
        request = _request(config, hardware, proposal, file_type)
        placement = place(config, make_budget(config, request, tier=hardware.tiers[0].name), hardware)
        if file_type is None and proposal.file_type is None and placement.moves:
            continue  # what runs today lies in one tier; otherwise a smaller file is the better choice
        yield _Candidate(file_type, request, placement)


def _file_types(hardware: Hardware, proposal: Proposal) -> tuple[str | None, ...]:
    if proposal.file_type is not None:
        return (proposal.file_type,)
    if proposal.packed and _has_native(hardware, proposal):
        return (AS_STORED,)
    return (None, *(_PACKED_TYPES if proposal.stored is None else (AS_STORED,)))


def _request(config: ModelConfig, hardware: Hardware, proposal: Proposal, file_type: str | None) -> BudgetRequest:
    device = device_of(hardware)
    native = _native(config, hardware, proposal, file_type)
    compute = _EXPANDED.get(file_type or "") or _compute(config, hardware, file_type, device)
    rows = compute
    if native is not None:
        total = hardware.tiers[0].total_bytes
        rows = _EXPANDED.get(file_type or "") or element_for(config, device, total)
        compute = _EXPANDED.get(file_type or "") or element_for(config, device, total, native)
    is_expanded = file_type is None or file_type in _EXPANDED
    return BudgetRequest(
        context=proposal.context or DEFAULT_CONTEXT,
        num_sequences=proposal.num_sequences,
        cache_format=proposal.cache_format or rows,
        compute_element=compute,
        chunk_tokens=proposal.chunk_tokens
        or chunk_tokens_for(config, _rate(hardware, proposal, is_packed=native is not None)),
        file_type=None if is_expanded else file_type,
        stored=proposal.stored if file_type == AS_STORED else None,
        native=None if native is None else native_weights(config, native, compute),
        gather_above_tokens=config.gather_threshold_tokens,
        num_devices=hardware.num_devices,
        device=device,
    )


def _has_native(hardware: Hardware, proposal: Proposal) -> bool:
    return proposal.has_native_kernels and device_of(hardware) == "cpu"


def _native(config: ModelConfig, hardware: Hardware, proposal: Proposal, file_type: str | None) -> Packed | None:
    """What stays packed with C++ kernels; None where others run, or where they run what they have no kernels for."""
    if file_type is None or not _has_native(hardware, proposal):
        return None
    return (proposal.packed if file_type == AS_STORED else packed_in_file_type(config, file_type)) or None


def _compute(config: ModelConfig, hardware: Hardware, file_type: str | None, device: str) -> ComputeElement:
    return "bf16" if file_type is not None else element_for(config, device, hardware.tiers[0].total_bytes)


def device_of(hardware: Hardware) -> str:
    """Where a machine computes: "cpu", "metal" or "cuda:0"."""
    if hardware.tiers[0].name != "gpu":
        return "cpu"
    return "metal" if hardware.name.startswith("mac") else "cuda:0"


def _rate(hardware: Hardware, proposal: Proposal, *, is_packed: bool) -> float:
    if hardware.tiers[0].name == "gpu":
        return ASSUMED_FLOPS_OF_A_GPU
    if hardware.peaks is not None:
        return _SHARE_OF_PEAK * hardware.peaks.bf16_flops
    return max(1, proposal.num_threads) * (ASSUMED_PACKED_FLOPS_PER_THREAD if is_packed else ASSUMED_FLOPS_PER_THREAD)


def _plan(config: ModelConfig, name: str, hardware: Hardware, proposal: Proposal, chosen: _Candidate) -> Plan:
    request = chosen.request
    return replace(
        plan_of(config, name, request, chosen.placement.budget),
        num_threads=proposal.num_threads,
        file_type=chosen.file_type,
        hardware=hardware.name,
        moves=chosen.placement.moves,
        not_built=tuple(_not_built(hardware, request, chosen.placement)),
    )


def _not_built(hardware: Hardware, request: BudgetRequest, placement: Placement) -> Iterator[str]:
    if request.native is None and has_packed_weights(request):
        yield f"weights that stay packed ({request.file_type or AS_STORED}) have no kernels yet"
    yield from not_built_format(request.cache_format)
    if placement.moves:
        yield "weights and rows outside of the fastest tier are not built yet"
    if hardware.num_devices > 1:
        yield f"a model over {hardware.num_devices} devices is not built yet"
    if request.device == "metal":
        yield "kernels for Metal are not built"


def _no_room(config: ModelConfig, hardware: Hardware, proposal: Proposal) -> CapacityError:
    file_type = proposal.file_type or (_PACKED_TYPES[-1] if proposal.stored is None else None)
    least = replace(proposal, file_type=file_type, context=proposal.context or _LEAST_DEFAULT_CONTEXT)
    budget = _budget(config, hardware, least)
    free = sum(tier.free_bytes for tier in hardware.tiers)
    needed = f"{file_type or 'the file'} needs {format_bytes(budget.total_bytes)}"
    fault = f"{needed}, {hardware.title} has {format_bytes(free)} free"
    return CapacityError(fault, _nearest(config, hardware, least))


def _budget(config: ModelConfig, hardware: Hardware, proposal: Proposal) -> Budget:
    request = _request(config, hardware, proposal, proposal.file_type)
    return make_budget(config, request, tier=hardware.tiers[0].name)


def _nearest(config: ModelConfig, hardware: Hardware, proposal: Proposal) -> str:
    """What to change: the context, else the file type, else the machine."""
    if (most := longest_context(config, hardware, proposal)) > 0:
        return f"--context {most} fits"
    for file_type in _PACKED_TYPES if proposal.stored is None else ():
        if _choose(config, hardware, replace(proposal, file_type=file_type)) is not None:
            return f"--quant {file_type} fits"
    for other in sorted(HARDWARE.values(), key=lambda machine: sum(tier.free_bytes for tier in machine.tiers)):
        found = _choose(config, other, replace(proposal, context=_LEAST_DEFAULT_CONTEXT))
        if found is not None and found.disk_bytes == 0:
            return f"it fits --hardware {other.name}; see also longlens plan --advise"
    return "no machine of the catalogue holds it: see longlens plan --advise"
