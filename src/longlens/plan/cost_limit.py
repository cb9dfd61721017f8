"""Times that good kernels could reach on a machine of the catalogue: FLOPs and bytes over stated shares of its peaks.

Reading a prompt is bound by arithmetic, by bytes that have to come over the link or from disk for every chunk, or by
memory, whichever takes longest. A token of an answer is bound by the bytes that it reads: every weight that it is
multiplied with, all index keys, and the rows that it attends to. All devices of a machine share the reading, chunk
after chunk; an answer's token passes through them one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from longlens.model.config import GqaConfig, ModelConfig
from longlens.plan.flops import prefill_flops
from longlens.plan.rates import LimitRates

# Weights that a token is not multiplied with: rows are looked up, or the layer is not run.
_NOT_READ = frozenset({"embedding", "mtp"})
WEIGHT_CLASSES = frozenset(
    {"attention", "indexer", "dense_ffn", "router", "experts", "shared_experts", "head", "norms"} | _NOT_READ
)

# Cached rows, as `plan/budget.py` names them: those of attended tokens are read, and all index keys.
_ROWS, _KEYS = frozenset({"latents", "keys_and_values"}), frozenset({"index_keys"})


class PlacedBytes(Protocol):
    """Bytes of one component of a plan; weights are named by their class (`plan/file_types.py`)."""

    @property
    def name(self) -> str:
        """What it is."""
        ...

    @property
    def tier(self) -> str:
        """Where it lies."""
        ...

    @property
    def num_bytes(self) -> int:
        """How much of it lies there."""
        ...


@dataclass(frozen=True)
class LimitRun:
    """What a plan says that matters for limits.

    Attributes:
        device_tier: tier of the memory that computes, "gpu" or "ram".
        components: weights by class and tier, and cached rows; others are passed over.
        row_bytes: cached bytes a token that only attended tokens' are read of, all layers.
        key_bytes: cached index keys a token, which are read of every token.
        chunk_tokens: tokens for which weights that lie elsewhere are fetched once.
        link_bytes_per_s: to the device; None where there is none.
    """

    device_tier: str
    components: Sequence[PlacedBytes]
    row_bytes: float
    key_bytes: float
    chunk_tokens: int
    link_bytes_per_s: float | None


def limit_prefill(config: ModelConfig, run: LimitRun, rates: LimitRates, first: int, end: int) -> dict[str, float]:
    """Seconds of reading positions first..end-1, by part; "weights" is what moving them takes longer than that."""
    flops = prefill_flops(config, end - first, first_position=first)
    parts = {
        "projections": flops.linear / rates.linear_flops,
        "indexer": flops.indexer / rates.indexer_flops,
        "attention": flops.attention / rates.attention_flops,
    }
    chunks = -(-(end - first) // run.chunk_tokens)
    moving = chunks * sum(
        _read(component, 1.0) / _move_rate(component.tier, run, rates) for component in run.components
    )
    return {**parts, "weights": max(0.0, moving - sum(parts.values()))}


def limit_decode(config: ModelConfig, run: LimitRun, rates: LimitRates, depth: int) -> float:
    """Seconds of one token with `depth` tokens before it."""
    share = 1.0 if config.moe is None else config.moe.num_experts_per_tok / config.moe.n_routed_experts
    seconds = sum(_read(component, share) / _decode_rate(component.tier, run, rates) for component in run.components)
    seen = depth + 1
    attended = (
        seen
        if config.indexer is None or isinstance(config.attention, GqaConfig)
        else min(seen, config.indexer.index_topk)
    )
    rows = run.row_bytes * attended * _seconds_a_byte(_ROWS, run, rates)
    return seconds + rows + run.key_bytes * seen * _seconds_a_byte(_KEYS, run, rates)


def _seconds_a_byte(names: frozenset[str], run: LimitRun, rates: LimitRates) -> float:
    """Time of a cached byte, averaged over the tiers that these components lie in."""
    placed = [component for component in run.components if component.name in names and component.num_bytes]
    total = sum(component.num_bytes for component in placed)
    if not total:
        return 1 / rates.read_bytes_per_s[run.device_tier]
    return sum(component.num_bytes / _decode_rate(component.tier, run, rates) for component in placed) / total


def _read(component: PlacedBytes, share_of_experts: float) -> float:
    """Bytes of a component that a pass over the weights reads."""
    if component.name not in WEIGHT_CLASSES or component.name in _NOT_READ:
        return 0.0
    return component.num_bytes * (share_of_experts if component.name == "experts" else 1.0)


def _move_rate(tier: str, run: LimitRun, rates: LimitRates) -> float:
    """Rate at which a tier's weights come to the arithmetic of a chunk."""
    if tier == run.device_tier or run.link_bytes_per_s is None:
        return rates.read_bytes_per_s[tier]
    return min(run.link_bytes_per_s, rates.read_bytes_per_s[tier])


def _decode_rate(tier: str, run: LimitRun, rates: LimitRates) -> float:
    """Rate at which one token reads a tier: experts in RAM are multiplied where they lie, those on disk are fetched."""
    if tier == "disk":
        return _move_rate(tier, run, rates)
    return rates.read_bytes_per_s[tier]
