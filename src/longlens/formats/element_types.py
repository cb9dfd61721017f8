"""How the bytes of a tensor are to be understood: plain numbers, or quantisation blocks.

Source: ggml's type table (ggml.h, ggml-common.h) for GGUF; the safetensors specification for plain types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from longlens.errors import UnsupportedModelError
from longlens.formats.quoting import quote


@dataclass(frozen=True)
class ElementType:
    """A storage type: `block_elements` weights lie in `block_bytes` bytes (1 in 4 for F32, 256 in 144 for Q4_K).

    Attributes:
        name: ggml's spelling, e.g. "F32", "BF16", "Q4_K"; safetensors' plain types use the same names
            ("F8_E4M3" for float8_e4m3fn).
        block_elements: weights in a block.
        block_bytes: bytes of a block.
    """

    name: str
    block_elements: int
    block_bytes: int

    def bytes_for(self, num_elements: int) -> int:
        """Bytes of a run of weights; the run must be whole blocks."""
        return num_elements // self.block_elements * self.block_bytes


GGML_TYPES: Mapping[int, ElementType] = MappingProxyType(
    {
        0: ElementType("F32", 1, 4),
        1: ElementType("F16", 1, 2),
        2: ElementType("Q4_0", 32, 18),
        3: ElementType("Q4_1", 32, 20),
        6: ElementType("Q5_0", 32, 22),
        7: ElementType("Q5_1", 32, 24),
        8: ElementType("Q8_0", 32, 34),
        9: ElementType("Q8_1", 32, 36),
        10: ElementType("Q2_K", 256, 84),
        11: ElementType("Q3_K", 256, 110),
        12: ElementType("Q4_K", 256, 144),
        13: ElementType("Q5_K", 256, 176),
        14: ElementType("Q6_K", 256, 210),
        15: ElementType("Q8_K", 256, 292),
        16: ElementType("IQ2_XXS", 256, 66),
        17: ElementType("IQ2_XS", 256, 74),
        18: ElementType("IQ3_XXS", 256, 98),
        19: ElementType("IQ1_S", 256, 50),
        20: ElementType("IQ4_NL", 32, 18),
        21: ElementType("IQ3_S", 256, 110),
        22: ElementType("IQ2_S", 256, 82),
        23: ElementType("IQ4_XS", 256, 136),
        24: ElementType("I8", 1, 1),
        25: ElementType("I16", 1, 2),
        26: ElementType("I32", 1, 4),
        27: ElementType("I64", 1, 8),
        28: ElementType("F64", 1, 8),
        29: ElementType("IQ1_M", 256, 56),
        30: ElementType("BF16", 1, 2),
        34: ElementType("TQ1_0", 256, 54),
        35: ElementType("TQ2_0", 256, 66),
        39: ElementType("MXFP4", 32, 17),
        40: ElementType("NVFP4", 64, 36),
        41: ElementType("Q1_0", 128, 18),
        42: ElementType("Q2_0", 64, 18),
    }
)

# Layouts that ggml once wrote and no longer reads.
_REMOVED_GGML_TYPES: Mapping[int, str] = MappingProxyType(
    {
        4: "Q4_2",
        5: "Q4_3",
        31: "Q4_0_4_4",
        32: "Q4_0_4_8",
        33: "Q4_0_8_8",
        36: "IQ4_NL_4_4",
        37: "IQ4_NL_4_8",
        38: "IQ4_NL_8_8",
    }
)

SAFETENSORS_TYPES: Mapping[str, ElementType] = MappingProxyType(
    {
        "BOOL": ElementType("BOOL", 1, 1),
        "U8": ElementType("U8", 1, 1),
        "I8": ElementType("I8", 1, 1),
        "U16": ElementType("U16", 1, 2),
        "I16": ElementType("I16", 1, 2),
        "U32": ElementType("U32", 1, 4),
        "I32": ElementType("I32", 1, 4),
        "U64": ElementType("U64", 1, 8),
        "I64": ElementType("I64", 1, 8),
        "F8_E4M3": ElementType("F8_E4M3", 1, 1),
        "F8_E5M2": ElementType("F8_E5M2", 1, 1),
        "F8_E8M0": ElementType("F8_E8M0", 1, 1),
        "F16": ElementType("F16", 1, 2),
        "BF16": ElementType("BF16", 1, 2),
        "F32": ElementType("F32", 1, 4),
        "F64": ElementType("F64", 1, 8),
    }
)


def ggml_type(type_id: int, tensor_name: str) -> ElementType:
    """Look up a storage type by ggml's number.

    Args:
        type_id: the number in a GGUF tensor entry.
        tensor_name: the tensor that carries it, for the error.

    Raises:
        UnsupportedModelError: no such type, or one that ggml itself has removed.
    """
    known = GGML_TYPES.get(type_id)
    if known is not None:
        return known
    removed = _REMOVED_GGML_TYPES.get(type_id)
    if removed is not None:
        raise UnsupportedModelError(
            f"tensor {quote(tensor_name)} has type {removed} (ggml type {type_id}), which ggml has removed",
            "convert the model again with a current llama.cpp, for example to Q4_0 or Q4_K_M",
        )
    raise UnsupportedModelError(
        f"tensor {quote(tensor_name)} has ggml type {type_id}, which longlens does not know",
        f"use a file quantised to one of: {', '.join(sorted(kind.name for kind in GGML_TYPES.values()))}",
    )


def safetensors_type(dtype: str, tensor_name: str) -> ElementType:
    """Look up a storage type by the safetensors spelling.

    Args:
        dtype: the entry's `dtype`, e.g. "BF16".
        tensor_name: the tensor that carries it, for the error.

    Raises:
        UnsupportedModelError: no such type.
    """
    known = SAFETENSORS_TYPES.get(dtype)
    if known is None:
        raise UnsupportedModelError(
            f"tensor {quote(tensor_name)} has dtype {quote(dtype)}, which longlens does not know",
            f"use a checkpoint stored as one of: {', '.join(SAFETENSORS_TYPES)}",
        )
    return known
