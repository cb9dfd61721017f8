"""The plan: every decision about a run, made once from the file, the machine and the user's wishes.

It is printed in the start log, saved as JSON, and put into every record. Fields are added, never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

ComputeElement = Literal["f32", "bf16", "f16"]


@dataclass(frozen=True)
class Plan:
    """What a run takes and how it is cut.

    Attributes:
        model: name of the checkpoint.
        context: most tokens of a sequence.
        num_sequences: sequences of that length that the cache holds.
        device: "cpu", or a CUDA device.
        compute_element: type of weights and activations.
        cache_element: type of cached rows.
        num_threads: threads for arithmetic.
        chunk_tokens: prefill chunks end at multiples of it.
        gather_above_tokens: cached tokens above which attention gathers selected rows; None without an indexer.
        weights_bytes: weights in memory, expanded to `compute_element`.
        kv_bytes_per_token: cached bytes a token, index keys included.
        kv_bytes: the whole cache, index keys included.
        index_bytes: index keys' part of it.
        scratch_bytes: scores, gathered rows and activations of a step at most.
        tiers: bytes by tier; all three parts together.
        fits: whether they fit what is free.
    """

    model: str
    context: int
    num_sequences: int
    device: str
    compute_element: ComputeElement
    cache_element: ComputeElement
    num_threads: int
    chunk_tokens: int
    gather_above_tokens: int | None
    weights_bytes: int
    kv_bytes_per_token: int
    kv_bytes: int
    index_bytes: int
    scratch_bytes: int
    tiers: Mapping[str, int]
    fits: bool

    @property
    def total_bytes(self) -> int:
        """Weights, cache and scratch."""
        return self.weights_bytes + self.kv_bytes + self.scratch_bytes

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps, the fields in this order."""
        return {**asdict(self), "tiers": dict(self.tiers)}
