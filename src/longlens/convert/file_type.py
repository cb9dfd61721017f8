"""The numbers under which GGUF files name what most of their tensors are.

Source: llama.cpp, include/llama.h (llama_ftype); ggml.h, GGML_QNT_VERSION.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FILE_TYPE_NUMBERS: Mapping[str, int] = MappingProxyType(
    {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "BF16": 32}
)
QUANTISATION_VERSION = 2
