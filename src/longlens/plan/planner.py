"""File, machine and wishes -> Plan.

This first planner knows one tier: everything in the memory of the device that computes. It refuses what does not fit
and says which context would.
"""

from __future__ import annotations

from dataclasses import dataclass

from longlens.errors import CapacityError, ContextLengthError, UsageError
from longlens.machine import Machine
from longlens.model.config import GqaConfig, ModelConfig
from longlens.model.needs import parameter_needs
from longlens.model.state import ELEMENT_BYTES, CacheSpec, cache_spec_of
from longlens.plan.plan import ComputeElement, Plan
from longlens.units import GIB, MIB, format_bytes

DEFAULT_CONTEXT = 262_144
LONGEST_CHUNK, SHORTEST_CHUNK = 4096, 64
# A chunk is to take at most two seconds. Until the machine is measured, this is what a core is trusted with.
CHUNK_SECONDS = 2.0
ASSUMED_FLOPS_PER_THREAD = 30e9
ASSUMED_FLOPS_OF_A_GPU = 50e12
# fp32 weights are the more exact choice on a processor; they are taken while they leave room for everything else.
FP32_SHARE_OF_MEMORY = 0.25
SCORES_AND_ROWS_BYTES = 256 * MIB
RUNTIME_BYTES = 1 * GIB
_ELEMENTS: tuple[ComputeElement, ...] = ("f32", "bf16", "f16")


@dataclass(frozen=True)
class Wishes:
    """What the user asked for; None leaves a decision to the planner."""

    context: int | None = None
    num_sequences: int = 1
    compute_element: ComputeElement | None = None
    cache_element: ComputeElement | None = None
    num_threads: int | None = None
    chunk_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("context", "num_sequences", "num_threads", "chunk_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "it must be at least 1")
        for name in ("compute_element", "cache_element"):
            value = getattr(self, name)
            if value is not None and value not in _ELEMENTS:
                raise UsageError(f"{name} is {value!r}", f"choose {', '.join(_ELEMENTS)}")


def make_plan(config: ModelConfig, name: str, machine: Machine, device: str, wishes: Wishes) -> Plan:
    """Decide how a model is run.

    Args:
        config: from the checkpoint.
        name: of the model, for people.
        machine: what is there.
        device: "cpu", or a CUDA device as torch names it.
        wishes: what the user asked for.

    Raises:
        ContextLengthError: the context is longer than the model was made for.
        CapacityError: weights, cache and scratch do not fit; the mend names a context that does.
    """
    compute = wishes.compute_element or _compute_element(config, machine, device)
    element = wishes.cache_element or compute
    spec = cache_spec_of(config, element)
    threads = min(wishes.num_threads or machine.num_threads, machine.num_threads)
    chunk = wishes.chunk_tokens or _chunk_tokens(config, threads, device)
    weights = _weights_bytes(config, compute)
    scratch = SCORES_AND_ROWS_BYTES + RUNTIME_BYTES + _activation_bytes(config, chunk)
    free = _free_bytes(machine, device)
    room_tokens = max(0, free - weights - scratch) // (spec.bytes_per_token * wishes.num_sequences)
    context = wishes.context or _default_context(config, spec, room_tokens)
    _check_trained_length(config, context)
    kv = padded_tokens(context, spec) * wishes.num_sequences * spec.bytes_per_token
    total = weights + kv + scratch
    tier = "ram" if device == "cpu" else "gpu"
    if total > free:
        raise CapacityError(
            f"the plan needs {format_bytes(total)}, {format_bytes(free)} are free",
            _nearest_that_fits(config, spec, room_tokens, weights + scratch),
        )
    return Plan(
        model=name,
        context=context,
        num_sequences=wishes.num_sequences,
        device=device,
        compute_element=compute,
        cache_element=element,
        num_threads=threads,
        chunk_tokens=chunk,
        gather_above_tokens=config.gather_threshold_tokens,
        weights_bytes=weights,
        kv_bytes_per_token=spec.bytes_per_token,
        kv_bytes=kv,
        index_bytes=kv * spec.bytes_of("index_key") // spec.bytes_per_token,
        scratch_bytes=scratch,
        tiers={tier: total},
        fits=True,
    )


def padded_tokens(context: int, spec: CacheSpec) -> int:
    """Token slots that a sequence of this length takes: whole pages."""
    return -(-context // spec.page_tokens) * spec.page_tokens


def _compute_element(config: ModelConfig, machine: Machine, device: str) -> ComputeElement:
    if device != "cpu":
        return "bf16"
    fits_easily = _weights_bytes(config, "f32") <= FP32_SHARE_OF_MEMORY * machine.memory_total_bytes
    return "f32" if fits_easily else "bf16"


def _weights_bytes(config: ModelConfig, element: ComputeElement) -> int:
    """Weights that are run; the multi-token prediction layer stays in the file."""
    return sum(
        need.num_elements * (4 if need.precision == "fp32" else ELEMENT_BYTES[element])
        for need in parameter_needs(config)
        if need.is_run
    )


def _chunk_tokens(config: ModelConfig, threads: int, device: str) -> int:
    rate = threads * ASSUMED_FLOPS_PER_THREAD if device == "cpu" else ASSUMED_FLOPS_OF_A_GPU
    tokens = CHUNK_SECONDS * rate / (2 * _active_parameters(config))
    chunk = LONGEST_CHUNK
    while chunk > SHORTEST_CHUNK and chunk > tokens:
        chunk //= 2
    return chunk


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


def _activation_bytes(config: ModelConfig, chunk: int) -> int:
    attention = config.attention
    if isinstance(attention, GqaConfig):
        widest = attention.num_attention_heads * attention.head_dim
    else:
        widest = attention.num_attention_heads * (2 * attention.qk_head_dim + attention.v_head_dim)
    return chunk * (6 * config.hidden_size + 2 * widest + 3 * config.intermediate_size) * 4


def _free_bytes(machine: Machine, device: str) -> int:
    if device == "cpu":
        return machine.memory_available_bytes
    number = int(device.partition(":")[2] or 0)
    if number >= len(machine.gpus):
        why = f" ({machine.gpu_fault})" if machine.gpu_fault else ""
        raise CapacityError(f"the driver lists no GPU number {number}{why}", "use --device cpu")
    return machine.gpus[number].memory_free_bytes


def _default_context(config: ModelConfig, spec: CacheSpec, room_tokens: int) -> int:
    """The model's own length, at most 262,144, and no more than fits."""
    longest = min(config.max_position_embeddings, DEFAULT_CONTEXT)
    return max(1, min(longest, room_tokens // spec.page_tokens * spec.page_tokens))


def _check_trained_length(config: ModelConfig, context: int) -> None:
    if context > config.max_position_embeddings:
        raise ContextLengthError(
            f"a context of {context} tokens is longer than the {config.max_position_embeddings} of the model",
            f"--context {config.max_position_embeddings} is the longest",
        )


def _nearest_that_fits(config: ModelConfig, spec: CacheSpec, room_tokens: int, fixed_bytes: int) -> str:
    pages = min(room_tokens, config.max_position_embeddings) // spec.page_tokens
    if pages > 0:
        return f"--context {pages * spec.page_tokens} fits"
    return f"weights and scratch alone take {format_bytes(fixed_bytes)}: use a smaller model or a larger machine"
