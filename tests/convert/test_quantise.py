import gguf
import numpy as np
import pytest
from gguf.quants import quantize

from longlens.convert.quantise import WRITABLE_TYPES, encode
from longlens.errors import ShapeError, UsageError


def rows_of_every_size() -> np.ndarray:
    """Ordinary weights, zeros, halves that round either way, tiny and huge ones."""
    generator = np.random.default_rng(1)
    plain = generator.standard_normal((40, 64)) * 10.0 ** generator.integers(-8, 5, (40, 1))
    halves = np.tile(np.arange(-63.5, 64.5)[None] * (127 / 64), (1, 1))[:, :64]
    return np.concatenate([plain, halves, np.zeros((1, 64)), np.full((1, 64), -3.0)]).astype(np.float32)


@pytest.mark.parametrize("element_type", WRITABLE_TYPES)
def test_bytes_equal_those_of_gguf_py(element_type: str) -> None:
    values = rows_of_every_size()
    expected = quantize(values, gguf.GGMLQuantizationType[element_type])
    assert encode(values, element_type).tobytes() == expected.tobytes()


def test_halves_are_rounded_away_from_zero() -> None:
    values = np.zeros(32, np.float32)
    values[:4] = 127, 0.5, -0.5, 1.5
    assert encode(values, "Q8_0")[2:6].view(np.int8).tolist() == [127, 1, -1, 2]


def test_a_block_of_zeros_has_no_scale() -> None:
    assert not encode(np.zeros((1, 32), np.float32), "Q8_0").any()


def test_a_nan_stays_a_nan_in_bf16() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    back = (encode(values, "BF16").view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert np.isnan(back[0])
    assert back[1:].tolist() == [np.inf, -np.inf, 1.0]


@pytest.mark.parametrize("shape", [(2, 33), (31,), ()])
def test_rows_that_are_not_whole_blocks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="not whole Q8_0 blocks"):
        encode(np.zeros(shape, np.float32), "Q8_0")


def test_a_type_that_is_not_encoded_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="Q4_K"):
        encode(np.zeros(256, np.float32), "Q4_K")
