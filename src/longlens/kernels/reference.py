"""Every operation in plain torch: short, readable, and the truth that every kernel is tested against.

Runs on any torch device and in fp64, fp32 and bf16. Reductions (norm statistics, scores, softmax, weighted sums) are
done in fp32 or better. Work is cut into tiles so that scratch stays inside `SCRATCH_BYTES` whatever the context.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from longlens.errors import SelectionError, ShapeError
from longlens.kernels.attention_inputs import index_inputs, mla_inputs
from longlens.kernels.interface import (
    AttentionForm,
    CachedRows,
    ExpertBank,
    FeedForward,
    GqaQuery,
    IndexInputs,
    IndexInputWeights,
    IndexQuery,
    Matrix,
    MlaInputs,
    MlaInputWeights,
    MlaQuery,
    MlaUpProjections,
    PackedUpProjections,
    UpProjections,
)
from longlens.kernels.packed import PackedTensor
from longlens.kernels.rotary import Angles
from longlens.kernels.routing import RouterWeights, choose_experts, router_scores, weigh_experts
from longlens.kernels.running_topk import RunningTopk
from longlens.units import MIB

# Below `host_memory.KEPT_BYTES`, so that the allocator keeps the memory between tiles: fresh pages cost more than the
# arithmetic on them. Larger tiles are no faster, and leave holes in the heap that nothing fits into again.
SCRATCH_BYTES = 3 * MIB
_KEY_TILE = 4096
_NEGATIVE_INFINITY = float("-inf")


class ReferenceKernels:
    """Plain torch implementation of `kernels.interface.Kernels`."""

    name = "plain torch"
    # Rows of a matrix product may be summed in another order when more rows share the call.
    is_batch_invariant = False

    def __init__(self, scratch_bytes: int = SCRATCH_BYTES) -> None:
        """Keep each operation's scratch near `scratch_bytes`."""
        self._scratch_bytes = scratch_bytes

    def embed(self, token_ids_T: Tensor, embedding_VD: Matrix, dtype: torch.dtype) -> Tensor:
        """Look up the rows of some tokens; of packed embeddings only these are expanded."""
        if isinstance(embedding_VD, PackedTensor):
            rows_TD = embedding_VD.rows_at(token_ids_T.tolist()).dense(dtype)
            return rows_TD.to(token_ids_T.device)
        return embedding_VD[token_ids_T].to(dtype)

    def project(
        self,
        x_TX: Tensor,
        weight_YX: Matrix,
        bias_Y: Tensor | None = None,
        *,
        is_fine: bool = False,  # noqa: ARG002
    ) -> Tensor:
        """Multiply rows by a weight stored [out, in]; a packed one is expanded for the call, which is slow."""
        if isinstance(weight_YX, PackedTensor):
            weight_YX = weight_YX.dense(x_TX.dtype).to(x_TX.device)
        return functional.linear(x_TX, weight_YX, bias_Y)

    def rms_norm(self, x_TX: Tensor, weight_X: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm; the normalised rows are rounded to the input's type before the weight is applied.

        Source: arXiv 1910.07467; rounding as transformers' GlmMoeDsaRMSNorm.
        """
        wide = x_TX.to(_wide(x_TX.dtype))
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return weight_X * normed.to(x_TX.dtype)

    def layer_norm(self, x_TX: Tensor, weight_X: Tensor, bias_X: Tensor, eps: float) -> Tensor:
        """Norm with mean subtraction and bias."""
        wide = _wide(x_TX.dtype)
        normed = functional.layer_norm(x_TX.to(wide), (x_TX.shape[-1],), weight_X.to(wide), bias_X.to(wide), eps)
        return normed.to(x_TX.dtype)

    def mla_inputs(self, hidden_TD: Tensor, weights: MlaInputWeights, angles: Angles) -> MlaInputs:
        """Project, normalise and rotate."""
        return mla_inputs(self, hidden_TD, weights, angles)

    def index_inputs(
        self, hidden_TD: Tensor, latent_TQ: Tensor, weights: IndexInputWeights, angles: Angles
    ) -> IndexInputs:
        """Project, normalise and rotate."""
        return index_inputs(self, hidden_TD, latent_TQ, weights, angles)

    def index_and_select(self, query: IndexQuery, keys: CachedRows, *, topk: int) -> Tensor:
        """Choose the cached positions that each query token attends to.

        Scores are computed over tiles of keys and reduced to a running top-k, so no [T, S] array exists.

        Args:
            query: indexer queries; token t may see positions <= first_position + t.
            keys: indexer keys of all cached tokens, this step's included.
            topk: most positions to keep per query token.

        Returns:
            positions_TK, int32, ascending, K = min(topk, S); rows with fewer visible tokens end in -1. The lower
            position wins a tie.

        Raises:
            ShapeError: head or key sizes disagree.
            SelectionError: scores are not finite.

        Source:
            DeepSeek-V3.2, lightning indexer; transformers, GlmMoeDsaIndexer.forward.
        """
        num_tokens, num_heads, width = query.query_TJI.shape
        if keys.pool_PX.shape[1] != width or query.head_weights_TJ.shape != (num_tokens, num_heads):
            raise ShapeError(
                f"indexer queries {tuple(query.query_TJI.shape)}, head weights {tuple(query.head_weights_TJ.shape)} "
                f"and keys of width {keys.pool_PX.shape[1]} disagree",
                "pass queries, weights and keys of one indexer",
            )
        kept = min(topk, keys.num_positions)
        positions_TK = torch.empty(num_tokens, kept, dtype=torch.int32, device=query.query_TJI.device)
        tile = self._tile_tokens(num_heads * min(_KEY_TILE, keys.num_positions) * 4 + (kept + _KEY_TILE) * 32)
        for start in range(0, num_tokens, tile):
            positions_TK[start : start + tile] = _running_topk(query.tile(start, start + tile), keys, kept)
        return positions_TK

    def sparse_attend(
        self, query: MlaQuery, latents: CachedRows, up: UpProjections, positions_TK: Tensor, *, scale: float
    ) -> Tensor:
        """Attend to the selected positions only, by gathering their latent rows (absorbed form).

        Args:
            query: queries, rope part rotated.
            latents: rows [c after norm | k_rope after rotation] of all cached tokens.
            up: `kv_b_proj` split per head.
            positions_TK: positions to attend to, -1 where a row has fewer.
            scale: softmax scale.

        Returns:
            out_THV.

        Source: arXiv 2405.04434, section 2.1 (absorption); GLM-5.2's attention.
        """
        num_tokens, heads, _ = query.nope_THN.shape
        width, wide = latents.pool_PX.shape[1], _wide(query.nope_THN.dtype)
        out_THV = query.nope_THN.new_empty(num_tokens, heads, up.value_HVC.shape[1])
        row_bytes = width * (latents.pool_PX.element_size() + wide.itemsize)
        tile = self._tile_tokens(positions_TK.shape[1] * (row_bytes + 8 * heads) + 8 * heads * width)
        up = self._ready(up)
        for start in range(0, num_tokens, tile):
            stop = min(start + tile, num_tokens)
            positions_tK = positions_TK[start:stop].long()
            query_tHX = self._absorb(query.tile(start, stop), up)
            rows_tKX = _rows_at(latents, positions_tK.clamp(min=0)).to(query_tHX.dtype)
            scores_tHK = torch.bmm(query_tHX, rows_tKX.transpose(1, 2)).mul_(scale)
            scores_tHK.masked_fill_((positions_tK < 0)[:, None], _NEGATIVE_INFINITY)
            out_tHC = torch.bmm(scores_tHK.softmax(-1), rows_tKX[..., : up.value_HVC.shape[2]])
            out_THV[start:stop] = self._raise_to_values(out_tHC, up)
        return out_THV

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
        """Attend to every visible position, or, given `positions_TK`, to those of them through a mask.

        For short contexts: scratch grows with S.

        Args:
            query: queries, rope part rotated.
            latents: rows [c after norm | k_rope after rotation] of all cached tokens.
            up: `kv_b_proj` split per head.
            scale: softmax scale.
            form: "expanded" raises keys and values to every head first; "absorbed" stays in the latent.
            positions_TK: selected positions, or None for all visible ones.

        Returns:
            out_THV.
        """
        rows_SX = latents.pool_PX.index_select(0, latents.slots_S).to(_wide(query.nope_THN.dtype))
        if form == "absorbed":
            out_THV = self._attend_absorbed(query, rows_SX, self._ready(up), scale, positions_TK)
        else:
            out_THV = self._attend_expanded(query, rows_SX, _widen(up), scale, positions_TK)
        return out_THV.to(query.nope_THN.dtype)

    def _attend_absorbed(
        self, query: MlaQuery, rows_SX: Tensor, up: UpProjections, scale: float, positions_TK: Tensor | None
    ) -> Tensor:
        num_tokens, heads, _ = query.nope_THN.shape
        out_THV = rows_SX.new_empty(num_tokens, heads, up.value_HVC.shape[1])
        tile = self._tile_tokens(heads * (rows_SX.shape[0] + rows_SX.shape[1]) * 8)
        for start in range(0, num_tokens, tile):
            part = query.tile(start, min(start + tile, num_tokens))
            positions_tK = None if positions_TK is None else positions_TK[start : start + tile]
            query_HtX = self._absorb(part, up).transpose(0, 1)
            values_SC = rows_SX[:, : up.value_HVC.shape[2]]
            out_HtC = self._attend(query_HtX, rows_SX, values_SC, part.first_position, scale, positions_tK)
            out_THV[start : start + tile] = self._raise_to_values(out_HtC.transpose(0, 1), up)
        return out_THV

    def _attend_expanded(
        self, query: MlaQuery, rows_SX: Tensor, up: MlaUpProjections, scale: float, positions_TK: Tensor | None
    ) -> Tensor:
        num_tokens, heads, _ = query.nope_THN.shape
        latent_rank = up.key_HNC.shape[2]
        out_THV = rows_SX.new_empty(num_tokens, heads, up.value_HVC.shape[1])
        expanded_width = up.key_HNC.shape[1] * 2 + query.rope_THR.shape[2] + up.value_HVC.shape[1]
        tile = min(heads, self._tile_tokens(rows_SX.shape[0] * expanded_width * 8))
        for head in range(0, heads, tile):
            some = slice(head, head + tile)
            query_THX = torch.cat([query.nope_THN[:, some], query.rope_THR[:, some]], -1).to(rows_SX.dtype)
            key_HSN = torch.matmul(rows_SX[:, :latent_rank], up.key_HNC[some].transpose(1, 2))
            rope_HSR = rows_SX[:, latent_rank:].expand(key_HSN.shape[0], -1, -1)
            key_HSX = torch.cat([key_HSN, rope_HSR], -1)
            value_HSV = torch.matmul(rows_SX[:, :latent_rank], up.value_HVC[some].transpose(1, 2))
            out_HTV = self._attend(
                query_THX.transpose(0, 1), key_HSX, value_HSV, query.first_position, scale, positions_TK
            )
            out_THV[:, some] = out_HTV.transpose(0, 1)
        return out_THV

    def _ready(self, up: UpProjections) -> UpProjections:
        """The up-projections in the form that `_absorb` and `_raise_to_values` take."""
        return _widen(up)

    def _absorb(self, query: MlaQuery, up: UpProjections) -> Tensor:
        """Queries in latent space, [q_nope U | q_rope], width C + R."""
        key_HNC = _widen(up).key_HNC
        latent_THC = torch.einsum("thn,hnc->thc", query.nope_THN.to(key_HNC.dtype), key_HNC)
        return torch.cat([latent_THC, query.rope_THR.to(key_HNC.dtype)], -1)

    def _raise_to_values(self, out_THC: Tensor, up: UpProjections) -> Tensor:
        return torch.einsum("thc,hvc->thv", out_THC, _widen(up).value_HVC)

    def gqa_attend(self, query: GqaQuery, keys: CachedRows, values: CachedRows, *, scale: float) -> Tensor:
        """Causal grouped-query attention over every cached position.

        Returns:
            out_THN.
        """
        heads, width = query.query_THN.shape[1:]
        wide = _wide(query.query_THN.dtype)
        key_SGN = keys.pool_PX.index_select(0, keys.slots_S).to(wide).view(keys.num_positions, -1, width)
        value_SGN = values.pool_PX.index_select(0, values.slots_S).to(wide).view(keys.num_positions, -1, width)
        repeat = heads // key_SGN.shape[1]
        out_HTN = self._attend(
            query.query_THN.to(wide).transpose(0, 1),
            key_SGN.transpose(0, 1).repeat_interleave(repeat, 0),
            value_SGN.transpose(0, 1).repeat_interleave(repeat, 0),
            query.first_position,
            scale,
            None,
        )
        return out_HTN.transpose(0, 1).to(query.query_THN.dtype)

    def feed_forward(self, x_TD: Tensor, weights: FeedForward) -> Tensor:
        """SwiGLU: down(silu(gate x) * up x)."""
        gate_TF = self.project(x_TD, weights.gate_FD, weights.gate_bias_F)
        up_TF = self.project(x_TD, weights.up_FD, weights.up_bias_F)
        # where the gate lies: rows of this width are the most that a step holds (autograd keeps what it needs)
        hidden_TF = functional.silu(gate_TF, inplace=True).mul_(up_TF)
        return self.project(hidden_TF, weights.down_DF, weights.down_bias_D)

    def route(self, x_TD: Tensor, router: RouterWeights) -> tuple[Tensor, Tensor]:
        """Choose experts and weigh them."""
        scores_TE = router_scores(x_TD, router)
        expert_ids_TA = choose_experts(scores_TE, router)
        return expert_ids_TA, weigh_experts(scores_TE, expert_ids_TA, router)

    def moe(self, x_TD: Tensor, expert_ids_TA: Tensor, expert_weights_TA: Tensor, bank: ExpertBank) -> Tensor:
        """Weighted sum of each token's chosen experts, in ascending order of expert id.

        Args:
            x_TD: rows after the norm.
            expert_ids_TA: chosen experts, no one twice in a row.
            expert_weights_TA: fp32 weights of the choices.
            bank: where the experts are.
        """
        out_TD = torch.zeros_like(x_TD, dtype=_wide(x_TD.dtype))
        for expert_id in sorted(set(expert_ids_TA.flatten().tolist())):
            tokens, choices = torch.where(expert_ids_TA == expert_id)
            result = self.feed_forward(x_TD[tokens], bank.expert(expert_id))
            out_TD.index_add_(0, tokens, result * expert_weights_TA[tokens, choices, None].to(out_TD.dtype))
        return out_TD.to(x_TD.dtype)

    def head(self, hidden_TD: Tensor, weight_VD: Matrix) -> Tensor:
        """Logits in fp32 (fp64 for fp64 input)."""
        logits_TV = self.project(hidden_TD, weight_VD)
        return logits_TV.to(_wide(logits_TV.dtype))

    def _attend(
        self,
        query_HTX: Tensor,
        key: Tensor,
        value: Tensor,
        first_position: int,
        scale: float,
        positions_TK: Tensor | None,
    ) -> Tensor:
        """Causal softmax attention in tiles of query tokens.

        `key` and `value` are [S, X], shared by all heads, or [H, S, X]; `positions_TK` narrows what each token sees.
        """
        heads, num_tokens, _ = query_HTX.shape
        num_positions = key.shape[-2]
        out_HTX = query_HTX.new_empty(heads, num_tokens, value.shape[-1])
        tile = self._tile_tokens(heads * num_positions * 8)
        places_S = torch.arange(num_positions, device=query_HTX.device)
        for start in range(0, num_tokens, tile):
            stop = min(start + tile, num_tokens)
            seen = min(first_position + stop, num_positions)
            own_t = first_position + torch.arange(start, stop, device=query_HTX.device)
            allowed_tS = places_S[:seen] <= own_t[:, None]
            if positions_TK is not None:
                allowed_tS &= _membership(positions_TK[start:stop], num_positions)[:, :seen]
            scores_HtS = torch.matmul(query_HTX[:, start:stop], key[..., :seen, :].transpose(-1, -2)).mul_(scale)
            scores_HtS.masked_fill_(~allowed_tS, _NEGATIVE_INFINITY)
            out_HTX[:, start:stop] = torch.matmul(scores_HtS.softmax(-1), value[..., :seen, :])
        return out_HTX

    def _tile_tokens(self, bytes_per_token: int) -> int:
        return max(1, self._scratch_bytes // max(1, bytes_per_token))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _widen(up: UpProjections) -> MlaUpProjections:
    if isinstance(up, PackedUpProjections):
        return up.dense(torch.float32)
    wide = _wide(up.key_HNC.dtype)
    return MlaUpProjections(up.key_HNC.to(wide), up.value_HVC.to(wide))


def _rows_at(cached: CachedRows, positions_tK: Tensor) -> Tensor:
    """Rows of some positions, [t, K, X]; index_select copies whole rows, several times as fast as an index."""
    slots_X = cached.slots_S.index_select(0, positions_tK.flatten())
    return cached.pool_PX.index_select(0, slots_X).view(*positions_tK.shape, -1)


def _membership(positions_tK: Tensor, num_positions: int) -> Tensor:
    """Booleans [t, S]: whether a position is among a row's; one spare column swallows the -1s."""
    member = torch.zeros(positions_tK.shape[0], num_positions + 1, dtype=torch.bool, device=positions_tK.device)
    places = torch.where(positions_tK < 0, num_positions, positions_tK).long()
    return member.scatter_(1, places, True)[:, :num_positions]


def index_scores(query: IndexQuery, keys_BI: Tensor) -> Tensor:
    """Index scores of some keys, without a causal mask: scores_TB = sum_j w_tj * relu(q_tj . k_b), fp32 or better.

    Source: DeepSeek-V3.2 (arXiv 2512.02556), equation of the lightning indexer.
    """
    wide = _wide(query.query_TJI.dtype)
    tokens, heads, width = query.query_TJI.shape
    products_XB = query.query_TJI.to(wide).reshape(tokens * heads, width) @ keys_BI.to(wide).T
    products_TJB = products_XB.view(tokens, heads, -1).relu_()
    return torch.bmm(query.head_weights_TJ.to(wide)[:, None], products_TJB)[:, 0]


def _running_topk(query: IndexQuery, keys: CachedRows, kept: int) -> Tensor:
    """Top `kept` positions of a few query tokens, tile of keys after tile of keys."""
    num_tokens = query.query_TJI.shape[0]
    device = query.query_TJI.device
    last_t = query.first_position + torch.arange(num_tokens, device=device)
    best = RunningTopk(
        torch.empty(num_tokens, 0, dtype=_wide(query.query_TJI.dtype), device=device),
        torch.empty(num_tokens, 0, dtype=torch.int32, device=device),
    )
    # Keys after the tile's last token are invisible to every row; only columns to fill up `kept` are needed of them.
    visible = max(min(query.first_position + num_tokens, keys.num_positions), kept)
    for start in range(0, visible, _KEY_TILE):
        stop = min(start + _KEY_TILE, visible)
        scores_tB = index_scores(query, keys.pool_PX.index_select(0, keys.slots_S[start:stop]))
        if not bool(torch.isfinite(scores_tB).all()):
            raise SelectionError(
                f"index scores of positions {start} to {stop - 1} are not finite",
                "the weights or the cached keys are damaged; check the file with its published checksum",
            )
        places_B = torch.arange(start, stop, dtype=torch.int32, device=device)
        scores_tB.masked_fill_(places_B > last_t[:, None], _NEGATIVE_INFINITY)
        best = best.merged(scores_tB, places_B.expand(num_tokens, -1), kept)
    return torch.where(best.positions_tK > last_t[:, None], -1, best.positions_tK)
