"""Rows of weights to the bytes of any element type that longlens writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longlens.convert.k_quants import K_QUANT_ENCODERS
from longlens.convert.round_to_nearest import NEAREST_ENCODERS
from longlens.errors import FormatError, ShapeError, UsageError
from longlens.formats.element_types import GGML_TYPES

Bytes = npt.NDArray[np.uint8]

_BLOCKS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({**NEAREST_ENCODERS, **K_QUANT_ENCODERS})
_PLAIN = MappingProxyType({"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16})
_BLOCK_ELEMENTS: Mapping[str, int] = MappingProxyType({kind.name: kind.block_elements for kind in GGML_TYPES.values()})
ENCODED_TYPES: tuple[str, ...] = (*_PLAIN, *_BLOCKS)
# Weights encoded at once: what is made of them on the way stays in the processor's cache (measured: 2**17).
_CHUNK_ELEMENTS = 2**17
# The largest fp16: F16 cannot hold more, and a block's scale is one.
_LARGEST_HALF = 65504.0


def encode_rows(weights: Tensor, element_type: str, *, name: str) -> Bytes:
    """Encode whole rows.

    Args:
        weights: fp32 [rows, columns], contiguous.
        element_type: one of `ENCODED_TYPES`.
        name: of the tensor, for errors.

    Returns:
        The rows' bytes, one after the other.

    Raises:
        UsageError: another element type.
        ShapeError: rows that are not whole blocks.
        FormatError: a weight that is not a number, infinite, or beyond the type's range.
    """
    if element_type not in ENCODED_TYPES:
        raise UsageError(f"longlens does not write {element_type}", f"choose {', '.join(ENCODED_TYPES)}")
    if weights.shape[-1] % _BLOCK_ELEMENTS[element_type]:
        raise ShapeError(
            f"{name!r} has rows of {weights.shape[-1]} weights, not whole blocks of {element_type}",
            "store this tensor as F16",
        )
    flat = weights.reshape(-1)
    chunks = [_encode(chunk, element_type, name) for chunk in torch.split(flat, _CHUNK_ELEMENTS)]
    return np.concatenate(chunks) if len(chunks) != 1 else chunks[0]


def _encode(chunk: Tensor, element_type: str, name: str) -> Bytes:
    _check_range(chunk, element_type, name)
    if element_type in _PLAIN:
        return chunk.to(_PLAIN[element_type]).view(torch.uint8).numpy()
    return _BLOCKS[element_type](chunk).view(-1).numpy()


def _check_range(chunk: Tensor, element_type: str, name: str) -> None:
    """F32 and BF16 store whatever comes; for the others the largest size tells, no number if a weight is none."""
    if element_type in ("F32", "BF16"):
        return
    largest = float(torch.maximum(chunk.amax(), -chunk.amin())) if chunk.numel() else 0.0
    if not largest <= _LARGEST_HALF:
        is_number = largest > _LARGEST_HALF and largest != float("inf")
        what = f"a weight of size {largest:g}" if is_number else "a weight that is infinite or not a number"
        raise FormatError(
            f"the tensor {name!r} holds {what}, which {element_type} cannot store",
            "the file may be damaged: download it again" if not is_number else "BF16 and F32 can",
        )
