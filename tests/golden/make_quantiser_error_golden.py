"""Record how far llama.cpp's K-quants are from the weights that they store: tests/golden/quantiser_errors.json.

    python -m tests.golden.make_quantiser_error_golden path/to/libggml-base.so

`ggml_quantize_chunk` is what llama-quantize calls for every tensor. No importance matrix.
"""

import ctypes
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

from tests.golden.quantiser_weights import tensors

GOLDEN = Path(__file__).with_name("quantiser_errors.json")
NUMBERS = {"Q4_K": 12, "Q5_K": 13, "Q6_K": 14}


def quantised(library: ctypes.CDLL, weights: np.ndarray, kind: str) -> np.ndarray:
    """ggml's bytes for a matrix."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    data = np.zeros((weights.shape[0], weights.shape[1] // block * size), np.uint8)
    arguments = (weights.ctypes.data, data.ctypes.data, 0, *weights.shape, None)
    library.ggml_quantize_chunk(NUMBERS[kind], *arguments)
    return data


def main() -> None:
    """Make the file anew."""
    library = ctypes.CDLL(sys.argv[1])
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        *[ctypes.c_void_p] * 2,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    errors = {}
    for name, weights in tensors().items():
        errors[name] = {}
        for kind in NUMBERS:
            stored = dequantize(quantised(library, weights, kind), gguf.GGMLQuantizationType[kind])
            difference = stored.astype(np.float64) - weights
            errors[name][kind] = float(np.sqrt(np.mean(difference**2)))
    GOLDEN.write_text(json.dumps(errors, indent=1) + "\n")


if __name__ == "__main__":
    main()
