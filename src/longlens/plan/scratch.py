"""What a step allocates beside weights and cache, counted from what the plain kernels do.

A layer holds the rows of a chunk in a few forms at once (plan/scratch_phases.py).
"""

from __future__ import annotations

from longlens.model.config import ModelConfig
from longlens.plan.scratch_native import native_scratch_bytes
from longlens.plan.scratch_phases import StepShape, layer_phases
from longlens.units import MIB

# Measured with C++ kernels: what lies free between the blocks of the heap when a step holds the most. Where weights are
# expanded, what loading them leaves in the heap (plan/budget.py) is room for these blocks, and counted already.
HOLE_SHARE = 0.1
# Measured on one processor (500 shapes): what oneDNN keeps for each shape of product that it has compiled, and how many
# of them at most.
_COMPILED_BYTES, _MOST_COMPILED = round(0.64 * MIB), 1024
# Token counts of experts that differ, as a multiple of the mean count.
_SPREAD = 1.8
_WIDE = 4


def scratch_bytes(config: ModelConfig, step: StepShape) -> int:
    """The most that a step holds at once beside weights and cache: the greediest part of a layer, or the logits."""
    most = max(max(map(sum, layer_phases(config, step))), _logits(config, step))
    # Slots say where rows lie; twice as many as they grow.
    slots = 2 * 8 * step.context * step.num_sequences
    if step.native is None:
        return most + slots
    threshold = step.gather_above_tokens
    seen = step.context if threshold is None else min(step.context, threshold)
    kept = native_scratch_bytes(config, step.native, step.chunk_tokens, seen)
    return round((most + kept) * (1 + HOLE_SHARE)) + slots


def compiled_products_bytes(config: ModelConfig, step: StepShape) -> int:
    """What oneDNN keeps for 16-bit products, on a processor: every number of tokens an expert gets is a new shape.

    An expert has two shapes of product: gate and up share one.
    """
    has_packed_experts = step.native is not None and step.native.experts is not None
    if not step.is_narrow or config.moe is None or has_packed_experts:
        return 0
    chunks = -(-step.context // step.chunk_tokens)
    experts = config.moe.n_routed_experts
    draws = chunks * sum(config.moe.is_sparse) * experts
    mean = step.chunk_tokens * config.moe.num_experts_per_tok / experts
    return min(_MOST_COMPILED, 2 * min(draws, round(_SPREAD * mean))) * _COMPILED_BYTES


def _logits(config: ModelConfig, step: StepShape) -> int:
    """Rows that are sampled from: computed, split, and kept by each sequence."""
    return 4 * step.num_sequences * config.vocab_size * _WIDE
