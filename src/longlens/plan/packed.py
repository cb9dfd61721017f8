"""Which weights of a file stay packed in memory, and what the C++ kernels make of them.

The library multiplies with blocks of some element types as they lie in the mapped file; everything else is expanded
when it is loaded. The rules are those of `weights/resident.py`, which a plan cannot import without torch; tests hold
the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

from longlens.formats.element_types import ElementType
from longlens.model.config import ModelConfig
from longlens.model.needs import parameter_needs
from longlens.model.state import ELEMENT_BYTES
from longlens.plan.file_types import WEIGHT_CLASSES, weight_class
from longlens.plan.gguf_mixture import MIXTURES, gguf_tensors
from longlens.plan.plan import ComputeElement
from longlens.weights.catalog import Catalog
from longlens.weights.names import Arrangement, tensor_name
from longlens.weights.parameters import ParameterNeed

# kernels.native.PACKED_TYPES.
PACKED_TYPES = frozenset(
    {
        "IQ1_M",
        "IQ1_S",
        "IQ2_S",
        "IQ2_XS",
        "IQ2_XXS",
        "IQ3_S",
        "IQ3_XXS",
        "IQ4_NL",
        "IQ4_XS",
        "MXFP4",
        "NVFP4",
        "Q2_K",
        "Q3_K",
        "Q4_0",
        "Q4_1",
        "Q4_K",
        "Q5_0",
        "Q5_1",
        "Q5_K",
        "Q6_K",
        "Q8_0",
        "TQ1_0",
        "TQ2_0",
    }
)
# Parameters that are packed together or not at all.
_TOGETHER = (("gate_proj.weight", "up_proj.weight", "down_proj.weight"), ("key", "value"))
_OUTSIDE_STEPS = ("model.embed_tokens.weight", "lm_head.weight")
_FINE = (".indexer.wq_b.weight", ".indexer.wk.weight")


@dataclass(frozen=True)
class PackedParameter:
    """A parameter that stays packed: its element type, and its bytes in the file."""

    type_name: str
    num_bytes: int


Packed = Mapping[str, PackedParameter]


@dataclass(frozen=True)
class PackedProduct:
    """A matrix that the library multiplies rows with.

    Attributes:
        rows: rows of the matrix.
        width: its columns.
        is_fine: activations keep 15 bits, so that they take part twice.
    """

    rows: int
    width: int
    is_fine: bool = False


@dataclass(frozen=True)
class NativeWeights:
    """Weights of a run with C++ kernels.

    Attributes:
        class_bytes: bytes of each class of weights in memory, packed or expanded.
        expanded_bytes: of these, bytes of weights that are expanded.
        products: matrices that are multiplied with one by one in every step.
        forwards: (hidden size, width) of packed feed-forwards and shared experts.
        experts: (hidden size, width) of packed routed experts; None if there are none.
        has_packed_up: `kv_b_proj` is expanded for a moment in every layer of a prefill step.
    """

    class_bytes: Mapping[str, int]
    expanded_bytes: int
    products: tuple[PackedProduct, ...]
    forwards: tuple[tuple[int, int], ...]
    experts: tuple[int, int] | None
    has_packed_up: bool


def has_library() -> bool:
    """Whether the C++ kernels are built here, found without loading them."""
    return find_spec("longlens.kernels._native") is not None


def packed_in_catalog(catalog: Catalog, types: frozenset[str] = PACKED_TYPES) -> Packed:
    """What of a checkpoint stays packed.

    Args:
        catalog: which tensors make up which parameter.
        types: element types that the kernels multiply with.
    """
    found: dict[str, PackedParameter] = {}
    for name, source in catalog.sources.items():
        info = source.tensors[0].info
        is_alone = source.arrangement is Arrangement.SAME or (
            source.arrangement is Arrangement.TRANSPOSED and name.endswith("kv_b_proj.key")
        )
        if is_alone and info.shape == _stored_shape(source.need, source.arrangement):
            _add(found, source.need, info.element_type, types)
    return MappingProxyType(dict(_in_whole_groups(found)))


def packed_in_file_type(config: ModelConfig, file_type: str, types: frozenset[str] = PACKED_TYPES) -> Packed:
    """What stays packed of a file that is planned for; nothing of one that is no GGUF of blocks."""
    found: dict[str, PackedParameter] = {}
    if file_type in MIXTURES:
        for tensor in gguf_tensors(config, file_type):
            arrangement = tensor_name(tensor.need.name, "gguf")[1]
            if arrangement in (Arrangement.SAME, Arrangement.TRANSPOSED):
                _add(found, tensor.need, tensor.element_type, types)
    return MappingProxyType(dict(_in_whole_groups(found)))


def native_weights(config: ModelConfig, packed: Packed, element: ComputeElement) -> NativeWeights:
    """Count the weights of a run with C++ kernels.

    Args:
        config: the model.
        packed: what stays packed.
        element: what everything else is expanded to.
    """
    sums: dict[str, int] = dict.fromkeys(WEIGHT_CLASSES, 0)
    expanded = 0
    products: set[PackedProduct] = set()
    forwards: set[tuple[int, int]] = set()
    experts: tuple[int, int] | None = None
    for need in parameter_needs(config):
        if not need.is_run:
            continue
        known = packed.get(need.name)
        if known is None:
            num_bytes = need.num_elements * (4 if need.precision == "fp32" else ELEMENT_BYTES[element])
            expanded += num_bytes
        else:
            num_bytes = known.num_bytes
            if need.name.endswith(".mlp.experts.gate_proj.weight"):
                experts = (need.shape[2], need.shape[1])
            elif _is_whole_forward(need.name, packed):
                if need.name.endswith("gate_proj.weight"):
                    forwards.add((need.shape[1], need.shape[0]))
            elif len(need.shape) == 2 and need.name not in _OUTSIDE_STEPS:
                products.add(PackedProduct(*need.shape, is_fine=_is_fine(need.name, config)))
        sums[weight_class(need, config)] += num_bytes
    return NativeWeights(
        class_bytes=MappingProxyType(sums),
        expanded_bytes=expanded,
        products=tuple(sorted(products, key=lambda each: (each.width, each.rows, each.is_fine))),
        forwards=tuple(sorted(forwards)),
        experts=experts,
        has_packed_up=any(name.endswith("kv_b_proj.key") for name in packed),
    )


def _add(found: dict[str, PackedParameter], need: ParameterNeed, kind: ElementType, types: frozenset[str]) -> None:
    is_matrix = len(need.shape) > 1 and need.precision != "fp32"
    if is_matrix and need.is_run and kind.name in types:
        found[need.name] = PackedParameter(kind.name, kind.bytes_for(need.num_elements))


def _stored_shape(need: ParameterNeed, arrangement: Arrangement) -> tuple[int, ...]:
    if arrangement is Arrangement.TRANSPOSED:
        return (*need.shape[:-2], need.shape[-1], need.shape[-2])
    return need.shape


def _in_whole_groups(found: Packed) -> Iterator[tuple[str, PackedParameter]]:
    """Without routed experts and up-projections of which a part is missing."""
    for name, parameter in found.items():
        is_grouped = ".mlp.experts." in name or ".kv_b_proj." in name
        if not is_grouped or all(other in found for other in _siblings(name)):
            yield name, parameter


def _siblings(name: str) -> Iterator[str]:
    for endings in _TOGETHER:
        for ending in endings:
            if name.endswith(f".{ending}"):
                yield from (name.removesuffix(ending) + other for other in endings)


def _is_whole_forward(name: str, packed: Packed) -> bool:
    siblings = tuple(_siblings(name))
    return ".mlp." in name and bool(siblings) and all(other in packed for other in siblings)


def _is_fine(name: str, config: ModelConfig) -> bool:
    """Products that decide which positions are chosen; `q_a_proj` does in full layers."""
    return name.endswith(_FINE) or (name.endswith("q_a_proj.weight") and config.indexer is not None)
