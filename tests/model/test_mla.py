from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longlens.errors import SelectionError
from longlens.kernels.interface import MlaUpProjections
from longlens.kernels.reference import ReferenceKernels
from longlens.model.config import IndexerConfig, MlaConfig
from longlens.model.indexer import Indexer, IndexerWeights
from longlens.model.mla import AttentionPolicy, MlaAttention, MlaPlace, MlaWeights
from tests.golden_models import ListState
from tests.model.one_step import Replaced, random_rows, step_of

HIDDEN, RANK, LATENT, HEADS, NOPE, ROPE_DIM, VALUE, TOPK = 12, 10, 9, 2, 5, 8, 7, 3
CONFIG = MlaConfig(HEADS, RANK, LATENT, NOPE, ROPE_DIM, VALUE, latent_norm_eps=1e-5, softmax_scale=0.3)


def weights_of(**changes: Any) -> MlaWeights:
    return replace(
        MlaWeights(
            q_a_proj=random_rows(RANK, HIDDEN, seed=1),
            q_a_layernorm=random_rows(RANK, seed=2),
            q_b_proj=random_rows(HEADS * (NOPE + ROPE_DIM), RANK, seed=3),
            kv_a_proj_with_mqa=random_rows(LATENT + ROPE_DIM, HIDDEN, seed=4),
            kv_a_layernorm=random_rows(LATENT, seed=5),
            kv_b_proj=MlaUpProjections(
                random_rows(HEADS, NOPE, LATENT, seed=6), random_rows(HEADS, VALUE, LATENT, seed=7)
            ),
            o_proj=random_rows(HIDDEN, HEADS * VALUE, seed=8),
        ),
        **changes,
    )


def indexer() -> Indexer:
    width = 10
    config = IndexerConfig(2, width, TOPK, is_rope_interleaved=True, is_full=(True,))
    weights = IndexerWeights(
        random_rows(2 * width, RANK, seed=11),
        random_rows(width, HIDDEN, seed=12),
        random_rows(width, seed=13),
        random_rows(width, seed=14),
        random_rows(2, HIDDEN, seed=15),
    )
    return Indexer(config, ROPE_DIM, 0, weights, ReferenceKernels())


class Watching(ReferenceKernels):
    """Kernels that keep the names of the ways in which attention was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.ways: list[str] = []

    def sparse_attend(self, *args: Any, **options: Any) -> Tensor:
        self.ways.append("gathered")
        return super().sparse_attend(*args, **options)

    def dense_attend(self, *args: Any, **options: Any) -> Tensor:
        self.ways.append(f"{options['form']}, {'dense' if options['positions_TK'] is None else 'masked'}")
        return super().dense_attend(*args, **options)


def attention_of(
    *,
    policy: AttentionPolicy | None = None,
    kernels: ReferenceKernels | None = None,
    config: MlaConfig = CONFIG,
    weights: MlaWeights | None = None,
) -> MlaAttention:
    return MlaAttention(
        config,
        MlaPlace(layer=0, leader=0, index_topk=TOPK),
        weights or weights_of(),
        indexer(),
        kernels or ReferenceKernels(),
        policy or AttentionPolicy(gather_above_tokens=2 * TOPK),
    )


def turned(x: np.ndarray, position: int) -> np.ndarray:
    """Pairs (2j, 2j+1) turned by position times their frequency."""
    pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(
        1j * position * 10000.0 ** (-np.arange(0, ROPE_DIM, 2) / ROPE_DIM)
    )
    return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)


def rms(x: np.ndarray, weight: Tensor, eps: float) -> np.ndarray:
    return weight.numpy() * x / np.sqrt((x**2).mean() + eps)


def attention_by_the_paper(hidden: Tensor, allowed: list[list[int]], config: MlaConfig = CONFIG) -> np.ndarray:
    """DeepSeek-V2, section 2.1, token by token and head by head, over the allowed positions."""
    w = weights_of()
    caches = []
    for position, row in enumerate(hidden.numpy()):
        compressed = w.kv_a_proj_with_mqa.numpy() @ row
        latent = rms(compressed[:LATENT], w.kv_a_layernorm, config.latent_norm_eps)
        caches.append((latent, turned(compressed[LATENT:], position)))
    rows = []
    for position, row in enumerate(hidden.numpy()):
        query_latent = rms(w.q_a_proj.numpy() @ row, w.q_a_layernorm, config.latent_norm_eps)
        queries = (w.q_b_proj.numpy() @ query_latent).reshape(HEADS, NOPE + ROPE_DIM)
        heads = []
        for head in range(HEADS):
            key_up, value_up = w.kv_b_proj.key_HNC[head].numpy(), w.kv_b_proj.value_HVC[head].numpy()
            scores = np.array(
                [
                    queries[head, :NOPE] @ key_up @ caches[place][0]
                    + turned(queries[head, NOPE:], position) @ caches[place][1]
                    for place in allowed[position]
                ]
            )
            weights = np.exp(config.softmax_scale * scores)
            values = np.stack([value_up @ caches[place][0] for place in allowed[position]])
            heads.append(weights / weights.sum() @ values)
        rows.append(w.o_proj.numpy() @ np.concatenate(heads))
    return np.stack(rows)


WAYS = [
    (AttentionPolicy(0), "gathered"),
    (AttentionPolicy(100, "absorbed"), "absorbed, masked"),
    (AttentionPolicy(100, "expanded"), "expanded, masked"),
]


@pytest.mark.parametrize(("policy", "way"), WAYS)
def test_attention_over_the_selection_is_the_formula_in_every_way(policy: AttentionPolicy, way: str) -> None:
    hidden, kernels = random_rows(9, HIDDEN), Watching()
    step = step_of([9])
    ours = attention_of(policy=policy, kernels=kernels).forward(step, hidden)
    (selected,) = step.share.take(0)
    allowed = [[place for place in row if place >= 0] for row in selected.tolist()]
    assert kernels.ways == [way]
    np.testing.assert_allclose(ours.numpy(), attention_by_the_paper(hidden, allowed), atol=1e-5)  # angles are fp32


def test_up_to_topk_tokens_attention_is_dense_and_after_twice_that_it_gathers() -> None:
    ways = {}
    for tokens in (TOPK, TOPK + 1, 2 * TOPK, 2 * TOPK + 1):
        kernels = Watching()
        policy = AttentionPolicy(2 * TOPK, "absorbed")
        attention_of(policy=policy, kernels=kernels).forward(step_of([tokens]), random_rows(tokens, HIDDEN))
        ways[tokens] = kernels.ways
    assert ways == {3: ["absorbed, dense"], 4: ["absorbed, masked"], 6: ["absorbed, masked"], 7: ["gathered"]}


def test_one_token_stays_in_the_latent_and_many_expand() -> None:
    ways = []
    for tokens in (1, 60):
        kernels = Watching()
        attention_of(policy=AttentionPolicy(100), kernels=kernels).forward(
            step_of([tokens]), random_rows(tokens, HIDDEN)
        )
        ways += kernels.ways
    assert ways == ["absorbed, dense", "expanded, masked"]


def test_the_latent_norm_covers_the_latent_alone_and_the_rope_key_is_turned() -> None:
    state, hidden = ListState(), random_rows(4, HIDDEN)
    attention_of().forward(step_of([4], states=[state]), hidden)
    rows = state.rows_of["latent", 0]
    assert rows.shape == (4, LATENT + ROPE_DIM)
    compressed = (hidden @ weights_of().kv_a_proj_with_mqa.T).numpy()
    for position in range(4):
        latent = rms(compressed[position, :LATENT], weights_of().kv_a_layernorm, 1e-5)
        np.testing.assert_allclose(rows[position, :LATENT].numpy(), latent, atol=1e-9)
        np.testing.assert_allclose(
            rows[position, LATENT:].numpy(), turned(compressed[position, LATENT:], position), atol=1e-6
        )


def test_the_latent_norm_uses_its_own_eps() -> None:
    hidden, loose = random_rows(3, HIDDEN), replace(CONFIG, latent_norm_eps=0.5)
    ours = attention_of(config=loose).forward(step_of([3]), hidden)
    allowed = [[0], [0, 1], [0, 1, 2]]
    np.testing.assert_allclose(ours.numpy(), attention_by_the_paper(hidden, allowed, loose), atol=1e-5)


def test_permuted_weights_turn_interleaved_into_half_split_rotary() -> None:
    order = [*range(0, ROPE_DIM, 2), *range(1, ROPE_DIM, 2)]
    plain = weights_of()
    queries = plain.q_b_proj.view(HEADS, NOPE + ROPE_DIM, RANK)
    permuted = weights_of(
        q_b_proj=queries[:, [*range(NOPE), *(NOPE + dim for dim in order)]].reshape(-1, RANK),
        kv_a_proj_with_mqa=plain.kv_a_proj_with_mqa[[*range(LATENT), *(LATENT + dim for dim in order)]],
    )
    hidden, half_split = random_rows(8, HIDDEN), replace(CONFIG, is_rope_interleaved=False)
    interleaved = attention_of().forward(step_of([8]), hidden)
    same = attention_of(config=half_split, weights=permuted).forward(step_of([8]), hidden)
    other = attention_of(config=half_split).forward(step_of([8]), hidden)
    torch.testing.assert_close(interleaved, same, atol=1e-12, rtol=0)
    assert (interleaved - other).abs().max() > 1e-2


def test_a_shared_layer_uses_the_positions_of_its_leader_and_writes_no_index_keys() -> None:
    shared = MlaAttention(
        CONFIG, MlaPlace(2, 1, TOPK), weights_of(), None, ReferenceKernels(), AttentionPolicy(2 * TOPK)
    )
    state, hidden = ListState(), random_rows(8, HIDDEN)
    step = step_of([8], states=[state])
    positions = torch.tensor([[max(token - 1, 0), token] for token in range(8)], dtype=torch.int32)
    positions[0] = torch.tensor([0, -1])
    step.share.put(1, [positions])
    ours = shared.forward(step, hidden)
    allowed = [[0], *([token - 1, token] for token in range(1, 8))]
    np.testing.assert_allclose(ours.numpy(), attention_by_the_paper(hidden, allowed), atol=1e-5)
    assert set(state.rows_of) == {("latent", 2)}


def test_a_shared_layer_without_its_leader_raises_and_selects_nothing_itself() -> None:
    shared = MlaAttention(
        CONFIG, MlaPlace(2, 1, TOPK), weights_of(), None, ReferenceKernels(), AttentionPolicy(2 * TOPK)
    )
    with pytest.raises(SelectionError, match="layer 1"):
        shared.forward(step_of([8]), random_rows(8, HIDDEN))


def test_replayed_positions_are_attended_to_instead_of_the_own_ones() -> None:
    hidden = random_rows(8, HIDDEN)
    replayed = torch.tensor([[0, -1]] + [[0, token] for token in range(1, 8)], dtype=torch.int32)
    ours = attention_of().forward(step_of([8], trace=Replaced(positions_TK=replayed)), hidden)
    allowed = [[0], *([0, token] for token in range(1, 8))]
    np.testing.assert_allclose(ours.numpy(), attention_by_the_paper(hidden, allowed), atol=1e-5)


def test_sequences_of_one_step_do_not_see_each_other() -> None:
    hidden = random_rows(11, HIDDEN)
    together = attention_of().forward(step_of([7, 4]), hidden)
    alone = [attention_of().forward(step_of([7]), hidden[:7]), attention_of().forward(step_of([4]), hidden[7:])]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-12, rtol=0)
