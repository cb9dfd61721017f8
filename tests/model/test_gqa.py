from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from longlens.kernels.reference import ReferenceKernels
from longlens.model.config import GqaConfig, RopeConfig
from longlens.model.gqa import GqaAttention, GqaWeights, Projection
from tests.golden_models import ListState
from tests.model.one_step import ROPE, random_rows, step_of

HIDDEN, HEADS, GROUPS, WIDTH = 12, 4, 2, 8
CONFIG = GqaConfig(HEADS, GROUPS, WIDTH)


def weights_of(*, has_bias: bool = False) -> GqaWeights:
    def projection(rows: int, columns: int, seed: int) -> Projection:
        return Projection(
            random_rows(rows, columns, seed=seed), random_rows(rows, seed=seed + 10) if has_bias else None
        )

    return GqaWeights(
        projection(HEADS * WIDTH, HIDDEN, 1),
        projection(GROUPS * WIDTH, HIDDEN, 2),
        projection(GROUPS * WIDTH, HIDDEN, 3),
        projection(HIDDEN, HEADS * WIDTH, 4),
    )


def attention_of(weights: GqaWeights | None = None, rope: RopeConfig = ROPE) -> GqaAttention:
    return GqaAttention(CONFIG, rope, 0, weights or weights_of(), ReferenceKernels())


def turned(x: np.ndarray, position: int, rope: RopeConfig) -> np.ndarray:
    turn = np.exp(1j * position * rope.theta ** (-np.arange(0, rope.dim, 2) / rope.dim))
    out, half = np.copy(x), rope.dim // 2
    one = np.arange(0, rope.dim, 2) if rope.is_interleaved else np.arange(half)
    two = one + (1 if rope.is_interleaved else half)
    pairs = (x[..., one] + 1j * x[..., two]) * turn
    out[..., one], out[..., two] = pairs.real, pairs.imag
    return out


def attention_by_hand(hidden: Tensor, weights: GqaWeights, rope: RopeConfig) -> np.ndarray:
    def project(row: np.ndarray, projection: Projection) -> np.ndarray:
        bias = 0 if projection.bias_Y is None else projection.bias_Y.numpy()
        return projection.weight_YX.numpy() @ row + bias

    rows, keys, values = [], [], []
    for position, row in enumerate(hidden.numpy()):
        keys.append(turned(project(row, weights.k_proj).reshape(GROUPS, WIDTH), position, rope))
        values.append(project(row, weights.v_proj).reshape(GROUPS, WIDTH))
        queries = turned(project(row, weights.q_proj).reshape(HEADS, WIDTH), position, rope)
        heads = []
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            scores = np.exp([queries[head] @ key[group] * WIDTH**-0.5 for key in keys])
            heads.append(scores / scores.sum() @ np.stack([value[group] for value in values]))
        rows.append(project(np.concatenate(heads), weights.o_proj))
    return np.stack(rows)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("rope", [ROPE, replace(ROPE, is_interleaved=False), replace(ROPE, dim=4)])
def test_attention_is_the_formula_with_either_rotary_and_with_part_of_the_head_turned(
    rope: RopeConfig, has_bias: bool
) -> None:
    hidden, weights = random_rows(6, HIDDEN), weights_of(has_bias=has_bias)
    ours = attention_of(weights, rope).forward(step_of([6], rope=rope), hidden)
    np.testing.assert_allclose(ours.numpy(), attention_by_hand(hidden, weights, rope), atol=1e-5)  # angles are fp32


def test_keys_are_cached_turned_and_values_as_they_are() -> None:
    state, hidden = ListState(), random_rows(3, HIDDEN)
    attention_of().forward(step_of([3], states=[state]), hidden)
    assert state.rows_of["key", 0].shape == state.rows_of["value", 0].shape == (3, GROUPS * WIDTH)
    plain_keys = hidden @ weights_of().k_proj.weight_YX.T
    assert torch.equal(state.rows_of["key", 0][0], plain_keys[0])
    assert (state.rows_of["key", 0][2] - plain_keys[2]).abs().max() > 0.1
    assert torch.equal(state.rows_of["value", 0], hidden @ weights_of().v_proj.weight_YX.T)


def test_a_sequence_read_in_chunks_and_beside_another_is_the_same() -> None:
    hidden = random_rows(9, HIDDEN)
    whole = attention_of().forward(step_of([9]), hidden)
    state = ListState()
    first = attention_of().forward(step_of([4], states=[state]), hidden[:4])
    step = step_of([3, 5], starts=[0, 4], states=[ListState(), state])
    second = attention_of().forward(step, torch.cat([random_rows(3, HIDDEN, seed=9), hidden[4:]]))
    torch.testing.assert_close(torch.cat([first, second[3:]]), whole, atol=1e-12, rtol=0)
