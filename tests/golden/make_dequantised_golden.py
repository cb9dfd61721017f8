"""Record what ggml's own `to_float` makes of random blocks of every element type: dequantised.npz.

    python -m tests.golden.make_dequantised_golden path/to/libggml-base.so

The bytes are random except for scales, which are made finite: real files hold no NaN there, and
NaNs would compare unequal to themselves.

Source: ggml, `ggml_get_type_traits` and the block layouts of `ggml-common.h`.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np

from tests.golden import tiny_models

FOLDER = Path(__file__).parent
NUM_BLOCKS = 8

TYPES: dict[str, tuple[int, list[int]]] = {
    "F16": (1, [0]),
    "BF16": (30, []),
    "Q4_0": (2, [0]),
    "Q4_1": (3, [0, 2]),
    "Q5_0": (6, [0]),
    "Q5_1": (7, [0, 2]),
    "Q8_0": (8, [0]),
    "Q2_K": (10, [80, 82]),
    "Q3_K": (11, [108]),
    "Q4_K": (12, [0, 2]),
    "Q5_K": (13, [0, 2]),
    "Q6_K": (14, [208]),
    "TQ1_0": (34, [52]),
    "TQ2_0": (35, [64]),
    "MXFP4": (39, []),
    "NVFP4": (40, []),
    "IQ1_S": (19, [0]),
    "IQ1_M": (29, []),
    "IQ2_XXS": (16, [0]),
    "IQ2_XS": (17, [0]),
    "IQ2_S": (22, [0]),
    "IQ3_XXS": (18, [0]),
    "IQ3_S": (21, [0]),
    "IQ4_NL": (20, [0]),
    "IQ4_XS": (23, [0]),
}
"""Element type -> its number in a GGUF file, and the byte offsets of its fp16 scales in a block."""


class TypeTraits(ctypes.Structure):
    """The head of `struct ggml_type_traits`."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("block_size", ctypes.c_int64),
        ("block_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def random_blocks(name: str, traits: TypeTraits) -> np.ndarray:
    """Random bytes, uint8 [blocks, bytes per block], whose scales are finite."""
    num_blocks = NUM_BLOCKS if traits.block_size > 1 else 256
    count = num_blocks * traits.type_size
    noise = tiny_models.random_tokens(1, count, 2**20)
    blocks = (noise >> 7).astype(np.uint8).reshape(num_blocks, traits.type_size)
    for offset in TYPES[name][1]:
        blocks[:, offset : offset + 2] = finite_halves(blocks[:, offset : offset + 2])
    if name == "BF16":
        halves = np.ascontiguousarray(blocks).view(np.uint16)
        blocks = np.where(halves >> 7 & 0xFF == 0xFF, halves ^ 0x4000, halves).view(np.uint8)
    elif name == "MXFP4":
        blocks[:, 0] = [0, 1, 2, 120, 127, 128, 135, 200]  # E8M0; the first two are subnormal
    elif name == "NVFP4":
        blocks[:, :4] &= 0x7F  # E4M3 without sign
        blocks[:, :4] -= (blocks[:, :4] == 0x7F).astype(np.uint8)  # which is a NaN
    elif name == "IQ1_M":
        halves = finite_halves(blocks[:, :2]).view(np.uint16)[:, 0]
        for place in range(4):  # the scale lies in the top nibbles of four 16-bit words
            nibble = (halves >> (4 * place) & 0xF).astype(np.uint8)
            blocks[:, 49 + 2 * place] = blocks[:, 49 + 2 * place] & 0x0F | nibble << 4
    return np.ascontiguousarray(blocks)


def finite_halves(pairs: np.ndarray) -> np.ndarray:
    """Clear one exponent bit of fp16 infinities and NaNs; uint8 [n, 2] to the same."""
    halves = np.ascontiguousarray(pairs).view(np.uint16)
    return np.where(halves >> 10 & 0x1F == 0x1F, halves ^ 0x4000, halves).view(np.uint8)


def dequantise(blocks: np.ndarray, traits: TypeTraits) -> np.ndarray:
    """ggml's floats, float32 [blocks, weights per block]."""
    floats = np.empty((len(blocks), traits.block_size), dtype=np.float32)
    traits.to_float(blocks.ctypes.data, floats.ctypes.data, floats.size)
    return floats


def main() -> None:
    """Record every type of `TYPES` with the library named on the command line."""
    library = ctypes.CDLL(sys.argv[1])
    library.ggml_get_type_traits.restype = ctypes.POINTER(TypeTraits)
    arrays = {}
    for name, (number, _) in TYPES.items():
        traits = library.ggml_get_type_traits(number).contents
        blocks = random_blocks(name, traits)
        floats = dequantise(blocks, traits)
        if traits.type_name.decode().lower() != name.lower() or not np.isfinite(floats).all():
            raise ValueError(f"{name}: ggml knows {traits.type_name.decode()}, or not finite")
        arrays |= {f"{name}/bytes": blocks, f"{name}/floats": floats}
    np.savez_compressed(FOLDER / "dequantised.npz", **arrays)


if __name__ == "__main__":
    main()
