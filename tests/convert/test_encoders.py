import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize

from longlens.convert.encoders import ENCODED_TYPES, encode_rows
from longlens.convert.k_quants import K_QUANT_ENCODERS
from longlens.errors import FormatError, ShapeError, UsageError

WEIGHTS = torch.randn(300, 512, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", sorted(set(ENCODED_TYPES) - set(K_QUANT_ENCODERS)))
def test_types_that_gguf_py_writes_have_its_bytes(kind: str) -> None:
    expected = quantize(WEIGHTS.numpy(), gguf.GGMLQuantizationType[kind])
    assert encode_rows(WEIGHTS, kind, name="w").tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", K_QUANT_ENCODERS)
def test_rows_of_several_chunks_are_these_in_order(kind: str) -> None:
    whole = encode_rows(WEIGHTS, kind, name="w")
    chunks = [encode_rows(WEIGHTS[rows], kind, name="w") for rows in (slice(256), slice(256, 300))]
    assert whole.tobytes() == np.concatenate(chunks).tobytes()


def test_no_rows_are_no_bytes() -> None:
    assert encode_rows(WEIGHTS[:0], "Q4_K", name="w").size == 0


def test_rows_that_are_not_whole_blocks_are_refused() -> None:
    with pytest.raises(ShapeError, match="'w' has rows of 300"):
        encode_rows(torch.zeros(2, 300), "Q4_K", name="w")


def test_a_type_that_is_not_written_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="IQ2_XS"):
        encode_rows(WEIGHTS, "IQ2_XS", name="w")


@pytest.mark.parametrize("kind", sorted(set(ENCODED_TYPES) - {"F32", "BF16"}))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 70000.0])
def test_a_weight_that_cannot_be_stored_is_an_error_with_the_tensors_name(kind: str, value: float) -> None:
    weights = WEIGHTS.clone()
    weights[299, 17] = value
    with pytest.raises(FormatError, match=r"'blk\.0\.x' holds a weight") as caught:
        encode_rows(weights, kind, name="blk.0.x")
    assert ("70000" in caught.value.fault) == (value == 70000.0)


@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_wide_types_store_whatever_comes(kind: str) -> None:
    weights = torch.tensor([[float("nan"), float("inf"), 1e30]])
    assert encode_rows(weights, kind, name="w").size
