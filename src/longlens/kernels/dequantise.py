"""Quantised blocks expanded in C++ (native/dequantise.hpp), bit for bit what gguf-py makes of them.

The codebooks of the IQ types are gguf-py's own tables, handed to the library when it is first used.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf.quants import IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS

from longlens.formats.element_types import ElementType

try:
    from longlens.kernels._native import Dequantiser, kind_names
except ImportError:  # built without a compiler, or for another Python
    KIND_NUMBERS: dict[str, int] = {}
else:
    KIND_NUMBERS = {name: number for number, name in enumerate(kind_names())}

FAST_TYPES = frozenset(KIND_NUMBERS)
"""Element types that are expanded in C++; none where the library is not built."""


@cache
def dequantiser(*, is_plain: bool = False) -> Dequantiser:
    """The library's loops with gguf-py's codebooks; `is_plain` keeps to those without SIMD."""
    parts = [IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S]
    return Dequantiser(b"".join(_codebook(part) for part in parts) + IQ2_XXS.ksigns, is_plain)


def expand(
    data: npt.NDArray[np.uint8], kind: ElementType, dtype: torch.dtype, *, is_plain: bool = False
) -> torch.Tensor:
    """Expand whole blocks of a type of `FAST_TYPES`.

    Args:
        data: uint8 [bytes], without gaps.
        kind: how the bytes are to be understood.
        dtype: fp32, or bf16 for the same numbers rounded once.
        is_plain: keep to the loops without SIMD.

    Returns:
        [weights], which owns its memory.
    """
    num_blocks = data.size // kind.block_bytes
    out = torch.empty(num_blocks * kind.block_elements, dtype=dtype)
    address = data.__array_interface__["data"][0]
    number = KIND_NUMBERS[kind.name]
    dequantiser(is_plain=is_plain).expand(number, address, num_blocks, out.data_ptr(), dtype == torch.bfloat16)
    return out


def _codebook(part: Any) -> bytes:  # gguf-py's classes have no types
    part.init_grid()
    return np.asarray(part.grid, np.int8).tobytes()
