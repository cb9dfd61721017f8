"""File, machine and wishes -> the plan that runs today: everything in the memory of the device that computes.

It refuses what does not fit and says which context would. What cannot run yet is planned by `plan/proposal.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from longlens.errors import CapacityError, ContextLengthError, UsageError
from longlens.machine import Machine
from longlens.model.config import ModelConfig
from longlens.model.needs import parameter_needs
from longlens.model.state import CacheSpec
from longlens.plan.budget import (
    PAGE_TOKENS,
    Budget,
    BudgetRequest,
    format_of,
    make_budget,
    memory_weights,
    padded_to_pages,
    safety_bytes,
)
from longlens.plan.packed import Packed, native_weights
from longlens.plan.plan import AS_STORED, BUILT_CACHE_FORMATS, CacheFormatName, ComputeElement, Plan
from longlens.units import format_bytes

DEFAULT_CONTEXT = 262_144
LONGEST_CHUNK, SHORTEST_CHUNK = 4096, 64
# A chunk is to take at most two seconds. Until the machine is measured, this is what a core is trusted with.
CHUNK_SECONDS = 2.0
ASSUMED_FLOPS_PER_THREAD = 30e9
# With packed weights and the C++ kernels: prefill of 512 tokens, attention included, reached 86e9 a core (Zen 4).
ASSUMED_PACKED_FLOPS_PER_THREAD = 80e9
ASSUMED_FLOPS_OF_A_GPU = 50e12
# fp32 weights are the more exact choice on a processor; they are taken while they leave room for everything else.
FP32_SHARE_OF_MEMORY = 0.25
_ELEMENTS: tuple[ComputeElement, ...] = ("f32", "bf16", "f16")
CACHE_FORMATS: tuple[CacheFormatName, ...] = (*_ELEMENTS, "fp8", "int8")


@dataclass(frozen=True)
class Wishes:
    """What the user asked for; None leaves a decision to the planner."""

    context: int | None = None
    num_sequences: int = 1
    compute_element: ComputeElement | None = None
    cache_element: CacheFormatName | None = None
    num_threads: int | None = None
    chunk_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("context", "num_sequences", "num_threads", "chunk_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "it must be at least 1")
        for name, known in (("compute_element", _ELEMENTS), ("cache_element", CACHE_FORMATS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UsageError(f"{name} is {value!r}", f"choose {', '.join(known)}")


def make_plan(
    config: ModelConfig, name: str, machine: Machine, device: str, wishes: Wishes, packed: Packed | None = None
) -> Plan:
    """Decide how a model is run.

    Args:
        config: from the checkpoint.
        name: of the model, for people.
        machine: what is there.
        device: "cpu", or a CUDA device as torch names it.
        wishes: what the user asked for.
        packed: what stays packed, with C++ kernels; None with plain ones, which expand everything.

    Raises:
        ContextLengthError: the context is longer than the model was made for.
        CapacityError: weights, cache and scratch do not fit; the mend names a context that does.
    """
    total = machine.memory_total_bytes
    compute = wishes.compute_element or element_for(config, device, total, packed)
    native = None if packed is None else native_weights(config, packed, compute)
    threads = min(wishes.num_threads or machine.num_threads, machine.num_threads)
    rate = threads * ASSUMED_FLOPS_PER_THREAD if device == "cpu" else ASSUMED_FLOPS_OF_A_GPU
    chunk = wishes.chunk_tokens or chunk_tokens_for(config, rate)
    cache_format = wishes.cache_element or wishes.compute_element or element_for(config, device, total)
    tier = "ram" if device == "cpu" else "gpu"
    free = _free_bytes(machine, device)

    request = BudgetRequest(
        context=1,
        num_sequences=wishes.num_sequences,
        cache_format=cache_format,
        compute_element=compute,
        chunk_tokens=chunk,
        native=native,
        gather_above_tokens=config.gather_threshold_tokens,
        device=device,
    )

    def budget_of(context: int) -> Budget:
        return make_budget(config, replace(request, context=context), tier=tier)

    most = longest_that_fits(config.max_position_embeddings, lambda context: _fits(budget_of(context), free))
    context = wishes.context or max(1, min(config.max_position_embeddings, DEFAULT_CONTEXT, most))
    check_trained_length(config, context)
    budget = budget_of(context)
    if not _fits(budget, free):
        needed = budget.total_bytes + safety_bytes(budget.total_bytes)
        raise CapacityError(
            f"the plan needs {format_bytes(needed)}, {format_bytes(free)} are free",
            _nearest_that_fits(most, budget),
        )
    plan = plan_of(config, name, replace(request, context=context), budget)
    return replace(
        plan,
        num_threads=threads,
        not_built=not_built_format(cache_format),
        file_type=AS_STORED if plan.weights_form == "packed" else None,
    )


def plan_of(config: ModelConfig, name: str, request: BudgetRequest, budget: Budget) -> Plan:
    """The plan of a budget that fits: what both entries know; threads, placement and what is not built come on top."""
    return Plan(
        model=name,
        context=request.context,
        num_sequences=request.num_sequences,
        device=request.device,
        compute_element=request.compute_element,
        cache_element=stored_element(request.cache_format),
        num_threads=0,
        chunk_tokens=request.chunk_tokens,
        gather_above_tokens=request.gather_above_tokens,
        weights_bytes=budget.weights_bytes,
        kv_bytes_per_token=format_of(config, request.cache_format).bytes_per_token,
        kv_bytes=budget.cache_bytes,
        index_bytes=budget.bytes_of("index_keys"),
        scratch_bytes=budget.bytes_of("scratch"),
        tiers=budget.by_tier(),
        fits=True,
        runtime_bytes=budget.bytes_of("runtime"),
        safety_bytes=safety_bytes(budget.total_bytes),
        cache_format=request.cache_format,
        weights_form="packed" if has_packed_weights(request) else "expanded",
        components=budget.components,
        kernels="plain" if request.native is None else "native",
    )


def has_packed_weights(request: BudgetRequest) -> bool:
    """Whether any weights stay as they lie in the file."""
    if request.native is not None:
        return request.native.expanded_bytes < sum(request.native.class_bytes.values())
    return request.file_type is not None or request.stored is not None


def check_runs(plan: Plan) -> None:
    """Refuse a plan that cannot run yet.

    Raises:
        UsageError: it needs what is not built; the mend names the nearest that runs.
    """
    if plan.not_built:
        formats = " or ".join(BUILT_CACHE_FORMATS)
        mend = (
            f"store cached rows as {formats}"
            if plan.cache_format not in BUILT_CACHE_FORMATS
            else "plan for one tier and expanded weights: a smaller model or file, or a shorter --context"
        )
        raise UsageError(f"the plan cannot run yet: {'; '.join(plan.not_built)}", mend)


def not_built_format(cache_format: CacheFormatName) -> tuple[str, ...]:
    """Why a format of cached rows cannot be stored yet; empty if it can."""
    return () if cache_format in BUILT_CACHE_FORMATS else (f"cached rows as {cache_format} are not built yet",)


def stored_element(cache_format: CacheFormatName) -> ComputeElement:
    """The element type of cached rows; planned formats are computed in bf16."""
    return cache_format if cache_format in ("f32", "bf16", "f16") else "bf16"


def padded_tokens(context: int, spec: CacheSpec) -> int:
    """Token slots that a sequence of this length takes: whole pages."""
    return -(-context // spec.page_tokens) * spec.page_tokens


def element_for(
    config: ModelConfig, device: str, memory_total_bytes: int, packed: Packed | None = None
) -> ComputeElement:
    """What weights are expanded to when nobody says, but for those that stay packed."""
    if device != "cpu":
        return "bf16"
    if packed is None:
        expanded = sum(memory_weights(config, "f32", None).values())
    else:
        expanded = native_weights(config, packed, "f32").expanded_bytes
    fits_easily = expanded <= FP32_SHARE_OF_MEMORY * memory_total_bytes
    return "f32" if fits_easily else "bf16"


def chunk_tokens_for(config: ModelConfig, flops_per_s: float) -> int:
    """Tokens of a chunk that takes at most `CHUNK_SECONDS`, a power of two."""
    tokens = CHUNK_SECONDS * flops_per_s / (2 * _active_parameters(config))
    chunk = LONGEST_CHUNK
    while chunk > SHORTEST_CHUNK and chunk > tokens:
        chunk //= 2
    return chunk


def longest_that_fits(longest: int, fits: Callable[[int], bool]) -> int:
    """The longest context of whole pages for which `fits` holds; 0 if not even one page does.

    Needs grow with the context, so that halving the range finds it.
    """
    if fits(longest):
        return longest
    low, high = 0, padded_to_pages(longest) // PAGE_TOKENS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * PAGE_TOKENS) else (low, middle)
    return low * PAGE_TOKENS


def check_trained_length(config: ModelConfig, context: int) -> None:
    """Refuse a context that the model was not made for.

    Raises:
        ContextLengthError: it is longer.
    """
    if context > config.max_position_embeddings:
        raise ContextLengthError(
            f"a context of {context} tokens is longer than the {config.max_position_embeddings} of the model",
            f"--context {config.max_position_embeddings} is the longest",
        )


def _fits(budget: Budget, free_bytes: int) -> bool:
    return budget.total_bytes + safety_bytes(budget.total_bytes) <= free_bytes


@cache
def _active_parameters(config: ModelConfig) -> int:
    """Weights that one token is multiplied with."""
    active = 0
    for need in parameter_needs(config):
        if not need.is_run or need.name == "model.embed_tokens.weight":
            continue
        share = 1.0
        if config.moe is not None and ".mlp.experts." in need.name:
            share = config.moe.num_experts_per_tok / config.moe.n_routed_experts
        active += round(need.num_elements * share)
    return active


def _free_bytes(machine: Machine, device: str) -> int:
    if device == "cpu":
        return machine.memory_available_bytes
    number = int(device.partition(":")[2] or 0)
    if number >= len(machine.gpus):
        why = f" ({machine.gpu_fault})" if machine.gpu_fault else ""
        raise CapacityError(f"the driver lists no GPU number {number}{why}", "use --device cpu")
    return machine.gpus[number].memory_free_bytes


def _nearest_that_fits(most: int, budget: Budget) -> str:
    if most > 0:
        return f'--context {most} fits; see what else with "longlens plan"'
    fixed = budget.total_bytes - budget.cache_bytes
    return (
        f"weights and scratch alone take {format_bytes(fixed)}: use a smaller model or a larger machine; "
        'see what else with "longlens plan"'
    )
