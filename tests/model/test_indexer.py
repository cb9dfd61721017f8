from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longlens.kernels.reference import ReferenceKernels
from longlens.model.config import IndexerConfig, MlaConfig
from longlens.model.indexer import Indexer, IndexerWeights, visible_positions
from longlens.model.step import Step
from tests.golden.tiny_models import CASES, case_weights, full_layers
from tests.golden_models import GOLDEN, ListState, golden_config
from tests.model.one_step import Replaced, random_rows, step_of

KERNELS = ReferenceKernels()
HIDDEN, RANK, HEADS, WIDTH, ROPE_DIM, TOPK = 12, 10, 3, 14, 8, 4


def weights_of(**changes: Tensor) -> IndexerWeights:
    return replace(
        IndexerWeights(
            wq_b=random_rows(HEADS * WIDTH, RANK, seed=1),
            wk=random_rows(WIDTH, HIDDEN, seed=2),
            k_norm_weight=random_rows(WIDTH, seed=3),
            k_norm_bias=random_rows(WIDTH, seed=4),
            weights_proj=random_rows(HEADS, HIDDEN, seed=5),
        ),
        **changes,
    )


def indexer_of(
    weights: IndexerWeights | None = None, *, is_interleaved: bool = True, kernels: Any = KERNELS, topk: int = TOPK
) -> Indexer:
    config = IndexerConfig(HEADS, WIDTH, topk, is_rope_interleaved=is_interleaved, is_full=(True,))
    return Indexer(config, ROPE_DIM, 0, weights or weights_of(), kernels)


def inputs(tokens: int) -> tuple[Tensor, Tensor]:
    return random_rows(tokens, HIDDEN, seed=6), random_rows(tokens, RANK, seed=7)


RECORDED = [
    (case, layer) for case in ("glm_topk8", "glm_topk48", "deepseek_topk8") for layer in full_layers(CASES[case])
]


@pytest.mark.parametrize(("case", "layer"), RECORDED)
def test_a_layer_alone_selects_what_transformers_selects_from_the_same_inputs(case: str, layer: int) -> None:
    with np.load(GOLDEN / f"{case}.npz") as golden:
        length = int(golden["inputs/length"])
        hidden, latent = (torch.from_numpy(golden[f"inputs/{kind}/{layer}"]) for kind in ("attention", "query_latent"))
        theirs = golden[f"{length}/positions/{layer}"]
    config, arrays = golden_config(case), case_weights(case)
    assert config.indexer is not None
    assert isinstance(config.attention, MlaConfig)
    prefix = f"model.layers.{layer}.self_attn.indexer."
    names = ("wq_b.weight", "wk.weight", "k_norm.weight", "k_norm.bias", "weights_proj.weight")
    weights = IndexerWeights(*(torch.from_numpy(arrays[prefix + name]) for name in names))
    indexer = Indexer(config.indexer, config.attention.qk_rope_head_dim, layer, weights, KERNELS)
    (selected,) = indexer.select(step_of([length], rope=config.rope), hidden, latent)
    np.testing.assert_array_equal(np.sort(selected.numpy()), np.sort(theirs))


def test_scores_are_the_published_formula() -> None:
    hidden, latent = inputs(9)
    weights, step = weights_of(), step_of([9])
    (selected,) = indexer_of(weights).select(step, hidden, latent)

    def turned(x: np.ndarray, position: int) -> np.ndarray:
        pairs = x[..., 0:ROPE_DIM:2] + 1j * x[..., 1:ROPE_DIM:2]
        pairs = pairs * np.exp(1j * position * 10000.0 ** (-np.arange(0, ROPE_DIM, 2) / ROPE_DIM))
        rest = np.copy(x)
        rest[..., 0:ROPE_DIM:2], rest[..., 1:ROPE_DIM:2] = pairs.real, pairs.imag
        return rest

    def key(position: int) -> np.ndarray:
        raw = weights.wk.numpy() @ hidden[position].numpy()
        normed = (raw - raw.mean()) / np.sqrt(raw.var() + 1e-6)
        return turned(weights.k_norm_weight.numpy() * normed + weights.k_norm_bias.numpy(), position)

    for token in range(9):
        query = turned((weights.wq_b.numpy() @ latent[token].numpy()).reshape(HEADS, WIDTH), token)
        head_weights = weights.weights_proj.numpy() @ hidden[token].numpy() * HEADS**-0.5
        scores = [head_weights @ np.maximum(query @ key(place) * WIDTH**-0.5, 0) for place in range(token + 1)]
        best = sorted(range(token + 1), key=lambda place: (-scores[place], place))[:TOPK]
        assert [place for place in selected[token].tolist() if place >= 0] == sorted(best)


def test_rotary_turns_the_first_dims_of_a_key_and_leaves_the_rest() -> None:
    state = ListState()
    hidden, latent = inputs(3)
    indexer_of().select(step_of([3], starts=[50], states=[prefilled(state, 50)]), hidden, latent)
    keys = state.rows_of["index_key", 0][50:]
    weights = weights_of()
    plain = KERNELS.layer_norm(hidden @ weights.wk.T, weights.k_norm_weight, weights.k_norm_bias, 1e-6)
    assert torch.equal(keys[:, ROPE_DIM:], plain[:, ROPE_DIM:])
    assert (keys[:, :ROPE_DIM] - plain[:, :ROPE_DIM]).abs().max() > 0.1
    torch.testing.assert_close(keys.norm(dim=1), plain.norm(dim=1), rtol=1e-6, atol=0)


def prefilled(state: ListState, positions: int) -> ListState:
    state.rows_of["index_key", 0] = random_rows(positions, WIDTH, seed=9)
    return state


@pytest.mark.parametrize("is_interleaved", [True, False])
def test_permuted_weights_turn_one_order_of_rotary_into_the_other(is_interleaved: bool) -> None:
    order = [*range(0, ROPE_DIM, 2), *range(1, ROPE_DIM, 2), *range(ROPE_DIM, WIDTH)]
    plain = weights_of()
    permuted = weights_of(
        wq_b=plain.wq_b.view(HEADS, WIDTH, RANK)[:, order].reshape(HEADS * WIDTH, RANK),
        wk=plain.wk[order],
        k_norm_weight=plain.k_norm_weight[order],
        k_norm_bias=plain.k_norm_bias[order],
    )
    hidden, latent = inputs(40)
    (interleaved,) = indexer_of(plain).select(step_of([40]), hidden, latent)
    (other,) = indexer_of(permuted, is_interleaved=is_interleaved).select(step_of([40]), hidden, latent)
    # With the permuted weights only the half-split order makes the same scores.
    assert torch.equal(interleaved, other) == (not is_interleaved)


def test_index_keys_are_written_even_while_every_position_is_visible() -> None:
    state = ListState()
    hidden, latent = inputs(TOPK)
    (selected,) = indexer_of().select(step_of([TOPK], states=[state]), hidden, latent)
    assert state.rows_of["index_key", 0].shape == (TOPK, WIDTH)
    assert selected.tolist() == [[0, -1, -1, -1], [0, 1, -1, -1], [0, 1, 2, -1], [0, 1, 2, 3]]


def test_one_position_more_than_topk_is_selected_from() -> None:
    hidden, latent = inputs(TOPK + 1)
    (selected,) = indexer_of().select(step_of([TOPK + 1]), hidden, latent)
    assert selected.shape == (TOPK + 1, TOPK)
    assert len(set(selected[-1].tolist()) & set(range(TOPK + 1))) == TOPK


def test_a_sequence_read_in_two_chunks_selects_as_in_one() -> None:
    hidden, latent = inputs(12)
    (whole,) = indexer_of().select(step_of([12]), hidden, latent)
    state = ListState()
    (first,) = indexer_of().select(step_of([7], states=[state]), hidden[:7], latent[:7])
    (second,) = indexer_of().select(step_of([5], starts=[7], states=[state]), hidden[7:], latent[7:])
    assert torch.equal(torch.cat([first, second]), whole)


def test_sequences_of_one_step_see_only_their_own_keys() -> None:
    hidden, latent = inputs(16)
    together = indexer_of().select(step_of([10, 6]), hidden, latent)
    (first,) = indexer_of().select(step_of([10]), hidden[:10], latent[:10])
    (second,) = indexer_of().select(step_of([6]), hidden[10:], latent[10:])
    assert torch.equal(together[0], first)
    assert torch.equal(together[1], second)


def test_a_trace_sees_every_sequence_and_may_replace_its_positions() -> None:
    other = torch.zeros(5, 1, dtype=torch.int32)
    trace = Replaced(positions_TK=other)
    hidden, latent = inputs(10)
    selected = indexer_of().select(step_of([5, 5], trace=trace), hidden, latent)
    assert trace.seen == [(0, 0), (0, 1)]
    assert selected[0] is other
    assert selected[1] is other


class Watching(ReferenceKernels):
    """Kernels that keep the head weights they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.head_weights: list[Tensor] = []

    def index_and_select(self, query: Any, keys: Any, *, topk: int) -> Tensor:
        self.head_weights.append(query.head_weights_TJ)
        return super().index_and_select(query, keys, topk=topk)


def test_head_weights_are_computed_in_fp32_from_bf16_rows() -> None:
    kernels = Watching()
    bf16 = {name: getattr(weights_of(), name).bfloat16() for name in ("wq_b", "wk", "k_norm_weight", "k_norm_bias")}
    weights = weights_of(**bf16, weights_proj=weights_of().weights_proj.float())
    hidden, latent = (rows.bfloat16() for rows in inputs(9))
    indexer_of(weights, kernels=kernels).select(step_of([9]), hidden, latent)
    expected = hidden.float() @ weights.weights_proj.T * (HEADS * WIDTH) ** -0.5
    (head_weights,) = kernels.head_weights
    assert head_weights.dtype == torch.float32
    torch.testing.assert_close(head_weights, expected, rtol=1e-6, atol=1e-7)


def test_visible_positions_of_a_later_chunk_include_the_earlier_ones() -> None:
    step: Step = step_of([2], starts=[1])
    assert visible_positions(step.spans[0], torch.device("cpu")).tolist() == [[0, 1, -1], [0, 1, 2]]
