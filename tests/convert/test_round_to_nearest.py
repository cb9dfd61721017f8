import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from longlens.convert.round_to_nearest import NEAREST_ENCODERS


def theirs(weights: np.ndarray, kind: str) -> bytes:
    with np.errstate(all="ignore"):
        return quantize(weights, gguf.GGMLQuantizationType[kind]).tobytes()


def ours(weights: np.ndarray, kind: str) -> bytes:
    return NEAREST_ENCODERS[kind](torch.from_numpy(weights).view(-1)).numpy().tobytes()


def rows_of_every_kind() -> np.ndarray:
    """Ordinary weights, halves that round either way, ties between a weight and its negative, zeros of both signs."""
    generator = np.random.default_rng(1)
    parts = [
        generator.standard_normal((400, 64)) * 10.0 ** generator.integers(-8, 5, (400, 1)),
        np.arange(-63.5, 0.5)[None] * (127 / 64),
        np.zeros((1, 64)),
        -np.zeros((1, 64)),
        np.full((1, 64), -3.0),
        np.tile([1.0, -1.0], (1, 32)),
        np.tile([-1.0, 1.0], (1, 32)),
        generator.integers(-8, 9, (500, 64)),
    ]
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("kind", NEAREST_ENCODERS)
def test_bytes_equal_those_of_gguf_py(kind: str) -> None:
    weights = rows_of_every_kind()
    assert ours(weights, kind) == theirs(weights, kind)


# Which of two zeros of unlike sign is the minimum of a block depends on numpy's vector loop, so only one zero is given.
_ONE_BLOCK = arrays.arrays(np.float32, 32, elements=st.floats(-60000, 60000, width=32).map(lambda value: value + 0.0))


@given(_ONE_BLOCK)
def test_any_block_is_gguf_pys(block: np.ndarray) -> None:
    for kind in NEAREST_ENCODERS:
        assert ours(block, kind) == theirs(block[None], kind), kind
