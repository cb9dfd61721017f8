"""Numbers to the bytes of an element type, as ggml's own quantisers write them.

Source: gguf-py, quants.py (BF16, Q8_0); ggml, quantize_row_q8_0_ref. The tests compare byte for byte.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from longlens.errors import ShapeError, UsageError

WritableType = Literal["F32", "F16", "BF16", "Q8_0"]
WRITABLE_TYPES: tuple[WritableType, ...] = get_args(WritableType)
Q8_0_ELEMENTS = 32

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def encode(values: Floats, element_type: str) -> Bytes:
    """Encode an array, rows along its last axis, into a flat run of bytes.

    Args:
        values: fp32, any shape.
        element_type: what the bytes are to be, one of `WRITABLE_TYPES`.

    Raises:
        UsageError: another element type.
        ShapeError: Q8_0, but the last axis is not whole blocks of 32.
    """
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    match element_type:
        case "F32":
            return flat.view(np.uint8)
        case "F16":
            return flat.astype(np.float16).view(np.uint8)
        case "BF16":
            return _bf16(flat)
        case "Q8_0":
            if values.ndim == 0 or values.shape[-1] % Q8_0_ELEMENTS:
                raise ShapeError(
                    f"rows of {values.shape[-1] if values.ndim else 1} are not whole Q8_0 blocks of {Q8_0_ELEMENTS}",
                    "store this tensor as F16 or F32",
                )
            return _q8_0(flat.reshape(-1, Q8_0_ELEMENTS))
        case _:
            raise UsageError(f"longlens does not encode {element_type}", f"choose {', '.join(WRITABLE_TYPES)}")


def _bf16(flat: Floats) -> Bytes:
    """Round to the nearest, ties to even; a NaN stays one and becomes quiet."""
    bits = flat.view(np.uint32).astype(np.uint64)
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = ((bits & 0xFFFF0000) | (64 << 16)) >> 16
    return np.where(is_nan, quiet, rounded).astype(np.uint16).view(np.uint8)


def _q8_0(blocks: Floats) -> Bytes:
    """An fp16 scale, the largest magnitude / 127, then 32 signed bytes; halves are rounded away from zero."""
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    scaled = blocks * inverse
    size = np.abs(scaled)
    whole = np.floor(size)
    levels = np.sign(scaled) * (whole + np.floor(2 * (size - whole)))
    parts = [scale.astype(np.float16).view(np.uint8), levels.astype(np.int8).view(np.uint8)]
    return np.concatenate(parts, axis=1).reshape(-1)
