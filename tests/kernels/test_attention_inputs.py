"""Inputs of attention from smaller operations: sizes and order; whole layers against transformers: tests/model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from longlens.kernels.attention_inputs import index_inputs, mla_inputs
from longlens.kernels.interface import IndexInputWeights, MlaInputWeights
from longlens.kernels.reference import ReferenceKernels
from longlens.kernels.rotary import Angles
from tests.kernels.random_matrices import random_rows

STILL = Angles(torch.ones(2, 2), torch.zeros(2, 2))


class Listening(ReferenceKernels):
    """Notes which products are fine, by their output width."""

    def __init__(self) -> None:
        super().__init__()
        self.fine: dict[int, bool] = {}

    def project(self, x_TX: Tensor, weight_YX: Any, bias_Y: Tensor | None = None, *, is_fine: bool = False) -> Tensor:
        self.fine[weight_YX.shape[0]] = is_fine
        return super().project(x_TX, weight_YX, bias_Y, is_fine=is_fine)


def mla_weights(*, is_selecting: bool) -> MlaInputWeights:
    return MlaInputWeights(
        random_rows(6, 8, 1), torch.ones(6), random_rows(14, 6, 2), random_rows(9, 8, 3), torch.ones(5),
        1e-6, 2, 3, True, is_selecting,
    )  # fmt: skip


def test_only_a_layer_that_selects_has_a_fine_latent() -> None:
    for is_selecting in (False, True):
        kernels = Listening()
        mla_inputs(kernels, random_rows(2, 8), mla_weights(is_selecting=is_selecting), STILL)
        assert kernels.fine == {6: is_selecting, 14: False, 9: False}


def test_without_rotation_rows_are_the_normed_latent_and_the_key() -> None:
    hidden_TD, weights = random_rows(2, 8), mla_weights(is_selecting=False)
    inputs = mla_inputs(ReferenceKernels(), hidden_TD, weights, STILL)
    compressed_TX = hidden_TD @ weights.kv_a_proj_with_mqa.T  # type: ignore[union-attr]
    latent_TC = compressed_TX[:, :5] / (compressed_TX[:, :5].pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(inputs.rows_TX, torch.cat([latent_TC, compressed_TX[:, 5:]], -1), atol=1e-6)
    assert (inputs.nope_THN.shape, inputs.rope_THR.shape) == ((2, 2, 3), (2, 2, 4))


def test_products_of_the_indexer_are_fine_and_its_head_weights_scaled() -> None:
    kernels = Listening()
    weights = IndexInputWeights(
        random_rows(12, 6, 1),
        random_rows(4, 8, 2),
        torch.ones(4),
        torch.zeros(4),
        1e-6,
        random_rows(3, 8, 3),
        3,
        4,
        True,
    )
    hidden_TD = random_rows(2, 8)
    inputs = index_inputs(kernels, hidden_TD, random_rows(2, 6), weights, STILL)
    assert kernels.fine == {12: True, 4: True, 3: False}
    assert torch.allclose(inputs.head_weights_TJ, hidden_TD @ weights.weights_proj.T * 12**-0.5)
    assert torch.allclose(inputs.key_TI.mean(-1), torch.zeros(2), atol=1e-6)
