"""Bytes of a run by component: weights by class, cached rows, scratch, and what a process takes without a model.

Every component begins in the fastest tier; `plan/placement.py` moves what does not fit there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from longlens.errors import UsageError
from longlens.model.config import GqaConfig, ModelConfig
from longlens.model.needs import parameter_needs
from longlens.model.state import ELEMENT_BYTES
from longlens.plan.cache_formats import CacheFormat, cache_formats
from longlens.plan.file_types import WEIGHT_CLASSES, stored_bytes, weight_class
from longlens.plan.packed import NativeWeights
from longlens.plan.plan import CacheFormatName, Component, ComputeElement
from longlens.plan.scratch import compiled_products_bytes, scratch_bytes
from longlens.plan.scratch_phases import StepShape
from longlens.units import KIB, MIB

PAGE_TOKENS = 64
# Measured: what a run takes beside weights, cache and scratch (records of engine and catalog, buffers of the math
# libraries), and the tokenizer's tables a vocabulary entry.
RUNTIME_BYTES, RUNTIME_BYTES_PER_TOKEN_OF_VOCABULARY = 15 * MIB, 600
# Measured: what loading weights leaves in the heap beside them.
HEAP_SHARE = 0.01
CUDA_CONTEXT_BYTES = 600 * MIB
# Kept free beyond the prediction before a plan is said to fit; no part of the predicted peak.
SAFETY_SHARE, LEAST_SAFETY_BYTES = 0.03, 64 * MIB

# In which words the formats of `plan/cache_formats.py` are asked for.
_LATENT_NAMES = {"fp8": "fp8_ds_mla, fp8 index keys", "int8": "int8 with a scale a row, int8 index keys"}
_GROUPED_NAMES = {"fp8": "plain fp8", "int8": "int8 with a scale a head"}
CACHE_NAMES = frozenset({"latents", "keys_and_values", "index_keys", "mtp_cache"})


@dataclass(frozen=True)
class Budget:
    """All components of a run."""

    components: tuple[Component, ...]

    @property
    def total_bytes(self) -> int:
        """Of all components in all tiers."""
        return sum(component.num_bytes for component in self.components)

    def by_tier(self) -> dict[str, int]:
        """Bytes by tier, in the order in which tiers first appear; the sum is `total_bytes`."""
        sums: dict[str, int] = {}
        for component in self.components:
            if component.num_bytes:
                sums[component.tier] = sums.get(component.tier, 0) + component.num_bytes
        return sums

    def bytes_of(self, *names: str) -> int:
        """Bytes of the components of these names, wherever they lie."""
        return sum(component.num_bytes for component in self.components if component.name in names)

    @property
    def weights_bytes(self) -> int:
        """All classes of weights."""
        return self.bytes_of(*WEIGHT_CLASSES)

    @property
    def cache_bytes(self) -> int:
        """Cached rows and index keys."""
        return self.bytes_of(*CACHE_NAMES)


@dataclass(frozen=True)
class BudgetRequest:
    """What bytes are to be counted for.

    Attributes:
        context: most tokens of a sequence.
        num_sequences: sequences of that length.
        cache_format: of cached rows.
        compute_element: of activations, and of weights that are expanded.
        chunk_tokens: most tokens of a step.
        file_type: weights stay packed as in files of this type; None expands them to `compute_element`.
        stored: bytes of each class of weights in a file whose blocks stay packed; used instead of `file_type`'s.
        native: weights of a run with C++ kernels; used instead of both.
        gather_above_tokens: cached tokens above which attention gathers rows; None: never.
        num_devices: graphics processors, each with scratch of its own.
        device: "cpu", or another.
    """

    context: int
    num_sequences: int = 1
    cache_format: CacheFormatName = "bf16"
    compute_element: ComputeElement = "bf16"
    chunk_tokens: int = 512
    file_type: str | None = None
    stored: Mapping[str, int] | None = None
    native: NativeWeights | None = None
    gather_above_tokens: int | None = None
    num_devices: int = 1
    device: str = "cpu"


def make_budget(config: ModelConfig, request: BudgetRequest, *, tier: str) -> Budget:
    """Count the bytes of a run, everything in one tier.

    Args:
        config: the model.
        request: how it runs.
        tier: the tier's name.
    """
    rows = format_of(config, request.cache_format)
    slots = padded_to_pages(request.context) * request.num_sequences
    kind = "keys_and_values" if isinstance(config.attention, GqaConfig) else "latents"
    step = StepShape(
        chunk_tokens=min(request.chunk_tokens, request.context),
        context=request.context,
        num_sequences=request.num_sequences,
        compute_element=request.compute_element,
        cache_element_bytes=_gathered_bytes(request.cache_format),
        gather_above_tokens=request.gather_above_tokens,
        native=request.native,
    )
    runtime = runtime_bytes(config, request.device)
    if request.device == "cpu":
        runtime += compiled_products_bytes(config, step)
    weights = _weights(config, request)
    # Packed weights are mapped, so that loading them leaves nothing in the heap.
    loaded = sum(weights.values()) if request.native is None else request.native.expanded_bytes
    runtime += round(HEAP_SHARE * loaded)
    counts = {
        **weights,
        kind: slots * rows.row_bytes,
        "index_keys": slots * rows.index_bytes,
        # The multi-token prediction layer is not run yet, so nothing is cached for it.
        "mtp_cache": 0,
        "scratch": scratch_bytes(config, step) * request.num_devices,
        "runtime": runtime * request.num_devices,
    }
    return Budget(tuple(Component(name, tier, num_bytes) for name, num_bytes in counts.items()))


def _gathered_bytes(cache_format: CacheFormatName) -> int:
    """Bytes of a cached value where it is gathered; planned formats are unpacked to two."""
    return ELEMENT_BYTES[cache_format] if cache_format in ("f32", "bf16", "f16") else 2


def _weights(config: ModelConfig, request: BudgetRequest) -> Mapping[str, int]:
    if request.native is not None:
        return request.native.class_bytes
    if request.stored is not None:
        return dict.fromkeys(WEIGHT_CLASSES, 0) | dict(request.stored) | {"mtp": 0}
    return memory_weights(config, request.compute_element, request.file_type)


@cache
def memory_weights(config: ModelConfig, element: ComputeElement, file_type: str | None) -> Mapping[str, int]:
    """Bytes of each class of weights in memory; the multi-token prediction layer stays in the file, so it takes none.

    Args:
        config: the model.
        element: what weights are expanded to.
        file_type: weights stay packed as in files of this type; None expands them.
    """
    if file_type is not None:
        return MappingProxyType(stored_bytes(config, file_type) | {"mtp": 0})
    sums: dict[str, int] = dict.fromkeys(WEIGHT_CLASSES, 0)
    for need in parameter_needs(config):
        if need.is_run:
            value_bytes = 4 if need.precision == "fp32" else ELEMENT_BYTES[element]
            sums[weight_class(need, config)] += need.num_elements * value_bytes
    return MappingProxyType(sums)


def format_of(config: ModelConfig, name: CacheFormatName) -> CacheFormat:
    """Bytes of a cached token in a format; "f16" takes what "bf16" takes.

    Raises:
        UsageError: no such format.
    """
    wanted = (_GROUPED_NAMES if isinstance(config.attention, GqaConfig) else _LATENT_NAMES).get(name, name)
    wanted = "bf16" if wanted == "f16" else wanted
    found = next((known for known in cache_formats(config) if known.name == wanted), None)
    if found is None:
        raise UsageError(f"{name!r} is not a format of cached rows", "choose f32, f16, bf16, fp8 or int8")
    return found


def runtime_bytes(config: ModelConfig, device: str) -> int:
    """What a process takes for a model beyond weights, cache and scratch."""
    tables = -(-config.vocab_size * RUNTIME_BYTES_PER_TOKEN_OF_VOCABULARY // KIB) * KIB
    return RUNTIME_BYTES + tables + (0 if device == "cpu" else CUDA_CONTEXT_BYTES)


def safety_bytes(total_bytes: int) -> int:
    """What is to stay free beside a plan of this size."""
    return max(LEAST_SAFETY_BYTES, round(SAFETY_SHARE * total_bytes))


def padded_to_pages(context: int) -> int:
    """Token slots that a sequence of this length takes: whole pages."""
    return -(-context // PAGE_TOKENS) * PAGE_TOKENS
