"""Lists of tensors as a checkpoint's headers give them, without any file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from longlens.formats.element_types import GGML_TYPES, SAFETENSORS_TYPES, ElementType
from longlens.formats.tensors import TensorInfo
from longlens.weights.names import Arrangement, tensor_name
from longlens.weights.parameters import ParameterNeed

TYPES: Mapping[str, ElementType] = {kind.name: kind for kind in (*SAFETENSORS_TYPES.values(), *GGML_TYPES.values())}


def info(name: str, shape: tuple[int, ...], type_name: str = "BF16") -> TensorInfo:
    kind = TYPES[type_name]
    return TensorInfo(name, shape, kind, 0, 0, kind.bytes_for(prod(shape)))


def by_name(tensors: Iterable[TensorInfo]) -> dict[str, TensorInfo]:
    return {tensor.name: tensor for tensor in tensors}


def complete(needs: Iterable[ParameterNeed], layout: str) -> dict[str, TensorInfo]:
    """Every tensor that a file of this layout holds for these needs, and no other."""
    found: dict[str, TensorInfo] = {}
    rows: dict[str, int] = {}
    for need in needs:
        pattern, arrangement = tensor_name(need.name, layout)
        if arrangement is Arrangement.PER_EXPERT:
            for expert in range(need.shape[0]):
                name = pattern.replace("{expert}", str(expert))
                found[name] = info(name, need.shape[1:])
        elif arrangement in (Arrangement.KEY_ROWS, Arrangement.VALUE_ROWS):
            rows[pattern] = rows.get(pattern, 0) + need.shape[0] * need.shape[1]
            found[pattern] = info(pattern, (rows[pattern], need.shape[2]))
        elif arrangement is Arrangement.TRANSPOSED:
            found[pattern] = info(pattern, (need.shape[0], need.shape[2], need.shape[1]))
        else:
            found[pattern] = info(pattern, need.shape)
    return found
