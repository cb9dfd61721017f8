"""The plan: every decision about a run, made once from the file, the machine and the user's wishes.

It is printed in the start log, saved as JSON, and put into every record. Fields are added, never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

ComputeElement = Literal["f32", "bf16", "f16"]
CacheFormatName = Literal["f32", "bf16", "f16", "fp8", "int8"]
WeightsForm = Literal["expanded", "packed"]
KernelsName = Literal["plain", "native"]
# The type of a file that is there, whose blocks stay packed, whatever their types.
AS_STORED = "as stored"
BUILT_CACHE_FORMATS: tuple[ComputeElement, ...] = get_args(ComputeElement)


@dataclass(frozen=True)
class Component:
    """Bytes of one kind in one tier.

    Attributes:
        name: a class of weights (`plan/file_types.py`), "latents" or "keys_and_values", "index_keys", "mtp_cache",
            "scratch" or "runtime".
        tier: "gpu", "ram" or "disk".
        num_bytes: how many.
    """

    name: str
    tier: str
    num_bytes: int


@dataclass(frozen=True)
class Plan:
    """What a run takes and how it is cut.

    Attributes:
        model: name of the checkpoint.
        context: most tokens of a sequence.
        num_sequences: sequences of that length that the cache holds.
        device: "cpu", or a CUDA device.
        compute_element: type of weights and activations.
        cache_element: type of cached rows; of a planned format, the type that its rows are computed in.
        num_threads: threads for arithmetic; 0 for a machine that is not this one.
        chunk_tokens: prefill chunks end at multiples of it.
        gather_above_tokens: cached tokens above which attention gathers selected rows; None without an indexer.
        weights_bytes: weights in memory, expanded to `compute_element` or packed as in the file.
        kv_bytes_per_token: cached bytes a token, index keys included.
        kv_bytes: the whole cache, index keys included.
        index_bytes: index keys' part of it.
        scratch_bytes: scores, gathered rows and activations of a step at most.
        tiers: bytes by tier; all parts together.
        fits: whether they fit what is free, with `safety_bytes` to spare.
        runtime_bytes: what the process takes for the model beside the above (tokenizer, records, buffers).
        safety_bytes: kept free beyond the predicted peak.
        cache_format: how cached rows are stored.
        file_type: type of the file that is planned for; None: of the checkpoint, expanded.
        weights_form: "expanded", or "packed": the file's blocks stay as they are where the kernels can use them.
        hardware: "this-machine", or a machine of the catalogue.
        components: bytes by component and tier; their sum is that of `tiers`.
        moves: what does not lie in the fastest tier, and why, a line each.
        not_built: why this plan cannot run yet; empty if it runs.
        ttft_s: seconds to the first token, "cold", from "memory" and from "disk"; None where nothing predicts them.
        decode_tokens_per_s: after the first token; None likewise.
        time_note: where these come from, or why there are none.
        kernels: "plain" (torch), or "native": the C++ library on the CPU.
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
    runtime_bytes: int = 0
    safety_bytes: int = 0
    cache_format: CacheFormatName = "bf16"
    file_type: str | None = None
    weights_form: WeightsForm = "expanded"
    hardware: str = "this-machine"
    components: Sequence[Component] = ()
    moves: Sequence[str] = ()
    not_built: Sequence[str] = ()
    ttft_s: Mapping[str, float | None] = field(
        default_factory=lambda: MappingProxyType({"cold": None, "memory": None, "disk": None})
    )
    decode_tokens_per_s: float | None = None
    time_note: str = ""
    kernels: KernelsName = "plain"

    @property
    def total_bytes(self) -> int:
        """Weights, cache, scratch and runtime: the predicted peak beyond an empty process."""
        return self.weights_bytes + self.kv_bytes + self.scratch_bytes + self.runtime_bytes

    @property
    def runs(self) -> bool:
        """Whether `load` can do this today."""
        return self.fits and not self.not_built

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps, the fields in this order."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "tiers": dict(self.tiers),
            "components": [asdict(component) for component in self.components],
            "moves": list(self.moves),
            "not_built": list(self.not_built),
            "ttft_s": dict(self.ttft_s),
        }
