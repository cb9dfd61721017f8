from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from numpy.typing import NDArray

from longlens.convert.random_blocks import RANDOM_TYPES, random_weights
from longlens.errors import UnsupportedModelError
from longlens.formats.element_types import GGML_TYPES, ElementType
from longlens.kernels.packed import PackedTensor

KINDS = {kind.name: kind for kind in GGML_TYPES.values()}


def made(kind: ElementType, count: int, spread: float = 0.03, seed: int = 1) -> NDArray[np.uint8]:
    return random_weights(count, kind, spread, np.random.default_rng(seed))


def decoded(kind: ElementType, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    if kind.name in ("F32", "F16"):
        return data.view({"F32": np.float32, "F16": np.float16}[kind.name]).astype(np.float32)
    return dequantize(data.reshape(1, -1), gguf.GGMLQuantizationType[kind.name]).reshape(-1)


def test_every_type_that_longlens_can_expand_can_be_made() -> None:
    def expands(kind: ElementType) -> bool:
        try:
            PackedTensor(np.zeros(kind.block_bytes, np.uint8), kind, (kind.block_elements,))
        except UnsupportedModelError:
            return False
        return not kind.name.startswith("I") or kind.name.startswith("IQ")

    assert set(RANDOM_TYPES) == {name for name, kind in KINDS.items() if expands(kind)} - {"F64"}


@pytest.mark.parametrize("name", RANDOM_TYPES)
@pytest.mark.parametrize("spread", [0.2, 0.03, 0.004])
def test_decoded_weights_have_the_wanted_spread_around_zero(name: str, spread: float) -> None:
    values = decoded(KINDS[name], made(KINDS[name], 2**16, spread))
    assert np.isfinite(values).all()
    assert values.std() == pytest.approx(spread, rel=0.05)
    assert abs(values.mean()) < 0.15 * spread
    assert np.abs(values).max() < 8 * spread


@pytest.mark.parametrize("name", RANDOM_TYPES)
def test_weights_are_the_seeds_and_fill_their_blocks(name: str) -> None:
    kind = KINDS[name]
    count = 8 * 256
    first, again, other = made(kind, count), made(kind, count), made(kind, count, seed=2)
    assert first.shape == (kind.bytes_for(count),)
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("name", "group"), [("Q2_K", 16), ("Q4_K", 32), ("Q5_K", 32), ("Q4_1", 32), ("Q5_1", 32)])
def test_the_minimum_of_a_group_puts_its_levels_around_zero(name: str, group: int) -> None:
    means = decoded(KINDS[name], made(KINDS[name], 2**16, 1.0)).reshape(-1, group).mean(axis=1)
    assert means.std() < 1.5 * group**-0.5


def test_blocks_differ_in_their_scales() -> None:
    scales = made(KINDS["Q4_0"], 32 * 64).reshape(-1, 18)[:, :2].copy().view(np.float16)
    assert len(set(scales.reshape(-1).tolist())) > 32
    assert (scales > 0).all()


def test_a_large_tensor_is_made_in_pieces_that_do_not_repeat() -> None:
    data = made(KINDS["Q4_0"], 2**23).reshape(2, -1)
    assert (data[0] != data[1]).any()


def test_a_type_without_a_decoder_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="Q8_K"):
        made(KINDS["Q8_K"], 256)
