"""The coarse operations that a model is made of, as a port that every device implements.

Shapes follow the project's legend (T query tokens, S cached tokens, K selected positions, H heads, N no-rope head
dims, R rope dims, C latent, V value head dims, J indexer heads, I indexer head dims, E experts, A experts chosen per
token, F expert width, D hidden, P slots of the cache pool).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from longlens.kernels.packed import PackedTensor
from longlens.kernels.rotary import Angles
from longlens.kernels.routing import RouterWeights

# A matrix [out, in] to multiply with: expanded, or as its blocks lie in the file.
Matrix = Tensor | PackedTensor
AttentionForm = Literal["absorbed", "expanded"]


@dataclass(frozen=True)
class CachedRows:
    """One cached tensor of one layer, as one sequence sees it.

    Attributes:
        pool_PX: all slots of the cache, one row each, shared by every sequence.
        slots_S: int64, the slot of each of the sequence's positions 0..S-1, this step's included.
    """

    pool_PX: Tensor
    slots_S: Tensor

    @property
    def num_positions(self) -> int:
        """Positions of the sequence that are stored."""
        return int(self.slots_S.shape[0])


@dataclass(frozen=True)
class MlaQuery:
    """Queries of one layer for the tokens of one sequence; `rope_THR` is already rotated."""

    nope_THN: Tensor
    rope_THR: Tensor
    first_position: int

    def tile(self, start: int, stop: int) -> MlaQuery:
        """Query tokens start..stop-1 alone."""
        return MlaQuery(self.nope_THN[start:stop], self.rope_THR[start:stop], self.first_position + start)


@dataclass(frozen=True)
class MlaUpProjections:
    """`kv_b_proj`, split per head: the key half `key_HNC` and the value half `value_HVC`."""

    key_HNC: Tensor
    value_HVC: Tensor


@dataclass(frozen=True, eq=False)
class PackedUpProjections:
    """`kv_b_proj` as GGUF stores it, per head: the key half turned, `key_HCN`, so that it multiplies queries."""

    key_HCN: PackedTensor
    value_HVC: PackedTensor

    def dense(self, dtype: torch.dtype) -> MlaUpProjections:
        """Expand both halves into new tensors."""
        return MlaUpProjections(self.key_HCN.dense(dtype).transpose(1, 2), self.value_HVC.dense(dtype))


UpProjections = MlaUpProjections | PackedUpProjections


@dataclass(frozen=True, eq=False)
class MlaInputWeights:
    """The projections of one layer's latent attention, named as in the checkpoint.

    Attributes:
        q_a_proj: hidden to query latent, [Q, D].
        q_a_layernorm: norm of the query latent, [Q].
        q_b_proj: query latent to heads, [H * (N + R), Q].
        kv_a_proj_with_mqa: hidden to cached row, [C + R, D].
        kv_a_layernorm: norm of the latent, [C].
        eps: of both norms.
        num_heads: H.
        nope_dim: N, what is not rotated.
        is_rope_interleaved: how rotated dims pair.
        is_selecting: an indexer chooses positions with this layer's query latent.
    """

    q_a_proj: Matrix
    q_a_layernorm: Tensor
    q_b_proj: Matrix
    kv_a_proj_with_mqa: Matrix
    kv_a_layernorm: Tensor
    eps: float
    num_heads: int
    nope_dim: int
    is_rope_interleaved: bool
    is_selecting: bool


@dataclass(frozen=True)
class MlaInputs:
    """What attention works with: the query latent, queries (`rope_THR` rotated), and the rows to cache."""

    latent_TQ: Tensor
    nope_THN: Tensor
    rope_THR: Tensor
    rows_TX: Tensor


@dataclass(frozen=True, eq=False)
class IndexInputWeights:
    """The projections of one indexer, named as in the checkpoint; heads are laid out [R rotated | rest].

    Attributes:
        wq_b: query latent to indexer heads, [J * I, Q].
        wk: hidden to index key, [I, D].
        k_norm_weight: of the key's layer norm; k_norm_bias likewise.
        eps: of that norm.
        weights_proj: hidden to head weights, [J, D], fp32.
        num_heads: J.
        rope_dim: R.
        is_rope_interleaved: how rotated dims pair.
    """

    wq_b: Matrix
    wk: Matrix
    k_norm_weight: Tensor
    k_norm_bias: Tensor
    eps: float
    weights_proj: Tensor
    num_heads: int
    rope_dim: int
    is_rope_interleaved: bool


@dataclass(frozen=True)
class IndexInputs:
    """Rotated queries and keys of an indexer, and its fp32 head weights, scaled by (J * I) ** -0.5."""

    query_TJI: Tensor
    key_TI: Tensor
    head_weights_TJ: Tensor


@dataclass(frozen=True)
class GqaQuery:
    """Rotated queries of one layer for the tokens of one sequence."""

    query_THN: Tensor
    first_position: int


@dataclass(frozen=True)
class IndexQuery:
    """Indexer queries after rotary, with the fp32 weight of each head, already scaled by (J * I) ** -0.5."""

    query_TJI: Tensor
    head_weights_TJ: Tensor
    first_position: int

    def tile(self, start: int, stop: int) -> IndexQuery:
        """Query tokens start..stop-1 alone."""
        return IndexQuery(self.query_TJI[start:stop], self.head_weights_TJ[start:stop], self.first_position + start)


@dataclass(frozen=True)
class FeedForward:
    """A SwiGLU network. Only some llama checkpoints carry biases."""

    gate_FD: Matrix
    up_FD: Matrix
    down_DF: Matrix
    gate_bias_F: Tensor | None = None
    up_bias_F: Tensor | None = None
    down_bias_D: Tensor | None = None


class ExpertBank(Protocol):
    """The routed experts of one layer; the bank decides where their weights live."""

    @property
    def num_experts(self) -> int:
        """E."""
        ...

    def expert(self, expert_id: int) -> FeedForward:
        """Weights of one expert, ready for use on the step's device."""
        ...


class Kernels(Protocol):
    """Every arithmetic operation of a step. Implementations are chosen only by `kernels/choose.py`."""

    @property
    def name(self) -> str:
        """What the start log calls it."""
        ...

    @property
    def is_batch_invariant(self) -> bool:
        """Whether a sequence's numbers stay bit-identical when others share its step."""
        ...

    def embed(self, token_ids_T: Tensor, embedding_VD: Matrix, dtype: torch.dtype) -> Tensor:
        """Look up the rows of some tokens, in the element type of the model's activations."""
        ...

    def project(
        self, x_TX: Tensor, weight_YX: Matrix, bias_Y: Tensor | None = None, *, is_fine: bool = False
    ) -> Tensor:
        """Multiply rows by a weight stored [out, in].

        A fine product decides which positions are selected: kernels that round activations keep more bits of them.
        """
        ...

    def rms_norm(self, x_TX: Tensor, weight_X: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm; statistics in fp32."""
        ...

    def layer_norm(self, x_TX: Tensor, weight_X: Tensor, bias_X: Tensor, eps: float) -> Tensor:
        """Norm with mean subtraction and bias; statistics in fp32."""
        ...

    def mla_inputs(self, hidden_TD: Tensor, weights: MlaInputWeights, angles: Angles) -> MlaInputs:
        """Everything from a layer's normed input to its queries and cached rows."""
        ...

    def index_inputs(
        self, hidden_TD: Tensor, latent_TQ: Tensor, weights: IndexInputWeights, angles: Angles
    ) -> IndexInputs:
        """Everything from a layer's normed input and query latent to its indexer's queries and keys."""
        ...

    def index_and_select(self, query: IndexQuery, keys: CachedRows, *, topk: int) -> Tensor:
        """Choose the cached positions that each query token attends to: int32 positions_TK, ascending, -1 padded."""
        ...

    def sparse_attend(
        self, query: MlaQuery, latents: CachedRows, up: UpProjections, positions_TK: Tensor, *, scale: float
    ) -> Tensor:
        """Attend to the selected positions only, by gathering their latent rows. Returns out_THV."""
        ...

    def dense_attend(
        self,
        query: MlaQuery,
        latents: CachedRows,
        up: UpProjections,
        *,
        scale: float,
        form: AttentionForm,
        positions_TK: Tensor | None = None,
    ) -> Tensor:
        """Attend to every visible position, or, given `positions_TK`, to those through a mask. Returns out_THV."""
        ...

    def gqa_attend(self, query: GqaQuery, keys: CachedRows, values: CachedRows, *, scale: float) -> Tensor:
        """Causal grouped-query attention. Returns out_THN."""
        ...

    def feed_forward(self, x_TD: Tensor, weights: FeedForward) -> Tensor:
        """SwiGLU: down(silu(gate x) * up x)."""
        ...

    def route(self, x_TD: Tensor, router: RouterWeights) -> tuple[Tensor, Tensor]:
        """Choose experts: ids [T, A], best first, the lower id wins a tie; and their weights [T, A]."""
        ...

    def moe(self, x_TD: Tensor, expert_ids_TA: Tensor, expert_weights_TA: Tensor, bank: ExpertBank) -> Tensor:
        """Weighted sum of each token's chosen experts."""
        ...

    def head(self, hidden_TD: Tensor, weight_VD: Matrix) -> Tensor:
        """Logits in fp32."""
        ...
