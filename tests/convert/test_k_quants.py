import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st

from longlens.convert.k_quants import BLOCK_ELEMENTS, K_QUANT_ENCODERS
from longlens.formats.checkpoint import open_checkpoint
from longlens.formats.element_types import GGML_TYPES
from tests.golden.quantiser_weights import tensors

TESTS = Path(__file__).parents[1]
ERRORS = json.loads((TESTS / "golden" / "quantiser_errors.json").read_text())
BYTES = {kind.name: kind.block_bytes for kind in GGML_TYPES.values()}


def stored(weights: np.ndarray, kind: str) -> np.ndarray:
    """What the bytes of these weights mean to gguf-py."""
    blocks = K_QUANT_ENCODERS[kind](torch.from_numpy(np.ascontiguousarray(weights)).view(-1))
    assert blocks.shape == (weights.size // BLOCK_ELEMENTS, BYTES[kind])
    return dequantize(blocks.numpy(), gguf.GGMLQuantizationType[kind]).reshape(weights.shape)


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))


@pytest.mark.parametrize("kind", K_QUANT_ENCODERS)
@pytest.mark.parametrize("name", ERRORS)
def test_the_error_is_at_most_that_of_llama_cpps_quantiser(name: str, kind: str) -> None:
    weights = tensors()[name]
    assert error(stored(weights, kind), weights) <= 1.02 * ERRORS[name][kind]


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K"])
@pytest.mark.parametrize("name", ["bell", "heavy tails", "uniform", "positive", "mostly zero"])
def test_steps_by_least_squares_bring_the_error_below_llama_cpps(name: str, kind: str) -> None:
    weights = tensors()[name]
    assert error(stored(weights, kind), weights) < ERRORS[name][kind]


@pytest.mark.parametrize(
    ("file", "kind", "least"),
    [("wide-glm-Q4_K_M", "Q4_K", 13), ("wide-glm-Q4_K_M", "Q6_K", 1), ("wide-glm-Q6_K", "Q6_K", 14)],
)
def test_blocks_of_a_real_file_survive_being_quantised_again(file: str, kind: str, least: int) -> None:
    """Weights that lie on the levels of such blocks already lose nothing that counts."""
    seen = 0
    with open_checkpoint(TESTS / "fixtures" / f"{file}.gguf") as checkpoint:
        for name, info in checkpoint.tensors.items():
            if info.element_type.name == kind:
                blocks = np.frombuffer(checkpoint.read(name), np.uint8).reshape(-1, info.element_type.block_bytes)
                weights = dequantize(blocks, gguf.GGMLQuantizationType[kind])
                assert error(stored(weights, kind), weights) < 1e-3 * error(weights, 0 * weights), name
                seen += 1
    assert seen >= least


@pytest.mark.parametrize("kind", K_QUANT_ENCODERS)
def test_a_block_depends_on_its_neighbours_by_rounding_alone(kind: str) -> None:
    """Sums over a vector and over what is left of one may differ in the last bit, and with it which of two equals."""
    weights = tensors()["rows of many sizes"]
    whole = stored(weights, kind)
    alone = np.concatenate([stored(block[None], kind)[0] for block in weights.reshape(-1, BLOCK_ELEMENTS)])
    for row, one, other in zip(weights, whole, alone.reshape(weights.shape), strict=True):
        assert error(one, row) == pytest.approx(error(other, row), rel=0.02)


@pytest.mark.parametrize("kind", K_QUANT_ENCODERS)
def test_zeros_become_zeros(kind: str) -> None:
    assert not stored(np.zeros((2, 256), np.float32), kind).any()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-30, 4))
def test_no_weight_is_further_off_than_a_step_of_its_block(seed: int, exponent: float) -> None:
    generator = np.random.default_rng(seed)
    sizes = 10.0 ** (exponent + generator.uniform(-3, 0, (4, 8, 1)))
    weights = (generator.standard_normal((4, 8, 32)) * sizes).astype(np.float32).reshape(4, 256)
    for kind, share in (("Q4_K", 0.16), ("Q5_K", 0.09), ("Q6_K", 0.05)):
        difference = np.abs(stored(weights, kind) - weights).max(1)
        # Weights of 128 * 32 times the smallest fp16 and less have the step 0.
        assert (difference <= share * np.abs(weights).max(1) + 3e-4).all(), kind
