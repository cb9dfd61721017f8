"""Our model's formulas over a batch of equal sequences, differentiable and in pieces that torch.compile handles.

The parameters are those that `longlens.model.needs` lists, under its names and in its shapes, and rotary and index
scores follow `longlens.model`; tests/training proves that the logits equal `longlens.model.transformer`'s, dense and
sparse. What depends on tokens alone works on rows [N], N = B * T, so that one compiled function serves every length.

Training only: every visible pair is scored ([B, T, T]); inference gathers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from longlens.kernels.rotary import Angles, rotate
from longlens.model.config import INDEXER_NORM_EPS, IndexerConfig, MlaConfig, ModelConfig, MoeConfig
from longlens.model.needs import parameter_needs
from longlens.model.rope import RotaryTable

Weights = Mapping[str, Tensor]
_LOWEST = float("-inf")


@dataclass
class Pass:
    """What one forward pass returns beside the hidden rows.

    Attributes:
        hidden_ND: rows after the last norm.
        index_loss: sum over full layers of the mean KL divergence between attention and indexer, or None.
        loads: share of choices of each expert, one [E] tensor a sparse layer.
        recall: per full layer, the attention mass of the sampled rows that its top-k keeps.
    """

    hidden_ND: Tensor
    index_loss: Tensor | None = None
    loads: dict[int, Tensor] = field(default_factory=dict)
    recall: list[Tensor] = field(default_factory=list)


@dataclass
class _Group:
    """A full layer while it and its shared layers run: its scores of the sampled rows, and what they should match."""

    logits_BRS: Tensor | None = None
    attention_BRS: list[Tensor] = field(default_factory=list)
    bias_BTS: Tensor | None = None


@dataclass(frozen=True)
class _Parts:
    """A layer's parameters, a mapping for each compiled piece: with equal keys, one compilation serves all layers."""

    attention: Weights
    indexer: Weights
    after: Weights
    draft: Weights


def _prefixes(config: ModelConfig) -> list[str]:
    return [f"model.layers.{layer}." for layer in range(config.num_hidden_layers + config.num_nextn_predict_layers)]


def _parts(parameters: Weights, prefix: str) -> _Parts:
    own = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
    indexer = {name: value for name, value in own.items() if ".indexer." in name}
    after = {
        name: value for name, value in own.items() if name.startswith(("mlp.", "post_attention", "self_attn.o_proj"))
    }
    draft = {name: value for name, value in own.items() if name.startswith(("enorm", "hnorm", "eh_proj"))}
    used = {*indexer, *after, *draft, "shared_head.norm.weight"}
    return _Parts({name: value for name, value in own.items() if name not in used}, indexer, after, draft)


class TrainableModel:
    """Parameters of a glm_moe_dsa model and its training-time forward pass."""

    def __init__(self, config: ModelConfig, parameters: dict[str, Tensor], compute: torch.dtype) -> None:
        """`parameters` by the project's names; `compute` is the type of matrix products (fp32 or bf16)."""
        if not (isinstance(config.attention, MlaConfig) and config.indexer is not None and config.moe is not None):
            raise SystemExit("only glm_moe_dsa is trained here")
        if config.moe.n_group != 1 or not config.moe.norm_topk_prob or not config.tie_word_embeddings:
            raise SystemExit("only models with tied embeddings and one group of normalised experts are trained here")
        self.config, self.mla, self.indexer, self.moe = config, config.attention, config.indexer, config.moe
        self.parameters = parameters
        self.compute = compute
        self.measures_recall = True
        self._parts = {prefix: _parts(parameters, prefix) for prefix in _prefixes(config)}
        self.rotary = RotaryTable(config.rope, parameters["model.norm.weight"].device)
        self._before: Callable[..., Any] = before_attention
        self._dense: Callable[..., Any] = after_attention_dense
        self._sparse: Callable[..., Any] = after_attention_moe
        self._index: Callable[..., Any] = index_projections
        self._rows: Callable[..., Any] = attention_of_rows
        self._row_scores: Callable[..., Any] = scores_of_rows
        self._select: Callable[..., Any] = selection_bias
        self._head: Callable[..., Any] = token_losses
        self._draft: Callable[..., Any] = draft_input

    def compile(self, **options: Any) -> None:
        """Compile the pieces; each is compiled once a shape."""
        names = ("_before", "_dense", "_sparse", "_index", "_rows", "_row_scores", "_select", "_head", "_draft")
        for name in names:
            setattr(self, name, torch.compile(getattr(self, name), dynamic=False, **options))

    def forward(
        self, ids_BT: Tensor, positions_BT: Tensor, rows_BR: Tensor | None = None, *, topk: int | None = None
    ) -> Pass:
        """Run the decoder.

        Args:
            ids_BT: token ids.
            positions_BT: rotary positions, ascending in each row.
            rows_BR: query rows on which the indexer learns from attention; None for no index loss.
            topk: attend to the indexer's best `topk` positions only; None for all.
        """
        shape = ids_BT.shape
        angles = self.rotary.angles(positions_BT.reshape(-1))
        hidden_ND = functional.embedding(ids_BT.reshape(-1), self.parameters["model.embed_tokens.weight"])
        hidden_ND = hidden_ND.to(self.compute)
        result = Pass(hidden_ND)
        group = _Group()
        for layer in range(self.config.num_hidden_layers):
            if self.indexer.is_full[layer]:
                self._close(group, result, topk)
                group = _Group()
            prefix = f"model.layers.{layer}."
            hidden_ND, load_E = self._layer(prefix, hidden_ND, (shape, angles, rows_BR, topk), group)
            if load_E is not None:
                result.loads[layer] = load_E
        self._close(group, result, topk)
        result.hidden_ND = rms_norm(hidden_ND, self.parameters["model.norm.weight"], self.config.rms_norm_eps)
        return result

    def draft(self, trunk_ND: Tensor, batch: tuple[Tensor, Tensor, Tensor | None], topk: int | None) -> Pass:
        """Run the multi-token prediction block on detached rows of the trunk.

        Row t gets the trunk's row t and the embedding of token t + 1; its output predicts token t + 2. `batch` is
        (ids of the next tokens, positions, rows of the index loss).
        """
        next_ids_BT, positions_BT, rows_BR = batch
        prefix = f"model.layers.{self.config.num_hidden_layers}."
        angles = self.rotary.angles(positions_BT.reshape(-1))
        embedded_ND = functional.embedding(
            next_ids_BT.reshape(-1), self.parameters["model.embed_tokens.weight"].detach()
        )
        joining = self._parts[prefix].draft
        hidden_ND = self._draft(embedded_ND, trunk_ND.detach(), joining, self.config.rms_norm_eps)
        result = Pass(hidden_ND)
        group = _Group()
        hidden_ND, load_E = self._layer(prefix, hidden_ND, (next_ids_BT.shape, angles, rows_BR, topk), group)
        self._close(group, result, topk)
        result.loads[self.config.num_hidden_layers] = load_E
        weight = self.parameters[f"{prefix}shared_head.norm.weight"]
        result.hidden_ND = rms_norm(hidden_ND, weight, self.config.rms_norm_eps)
        return result

    def losses(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy of every row, nats."""
        return self._head(hidden_ND, self.parameters["model.embed_tokens.weight"], targets_N)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Logits in fp32."""
        return functional.linear(hidden_ND, self.parameters["model.embed_tokens.weight"].to(hidden_ND.dtype)).float()

    def _layer(
        self, prefix: str, hidden_ND: Tensor, step: tuple[Any, Angles, Tensor | None, int | None], group: _Group
    ) -> tuple[Tensor, Tensor | None]:
        (batch, tokens), angles, rows_BR, topk = step
        w = self._parts[prefix]
        turn = (angles.cos_TR, angles.sin_TR)
        normed_ND, latent_NQ, *qkv = self._before(hidden_ND, w.attention, turn, self.mla, self.config.rms_norm_eps)
        query, key, value = (x.view(batch, tokens, self.mla.num_attention_heads, -1).transpose(1, 2) for x in qkv)
        if w.indexer:
            self._lead(w.indexer, (normed_ND, latent_NQ, turn), (batch, tokens, rows_BR, topk), group)
        if rows_BR is not None:
            group.attention_BRS.append(self._rows(query, key, rows_BR, self.mla.softmax_scale))
        mask = None if group.bias_BTS is None else group.bias_BTS[:, None].to(query.dtype)
        out = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=self.mla.softmax_scale
        )
        out_NX = out.transpose(1, 2).reshape(batch * tokens, -1)
        if "mlp.gate.weight" not in w.after:
            return self._dense(hidden_ND, out_NX, w.after, self.config.rms_norm_eps), None
        return self._sparse(hidden_ND, out_NX, w.after, self.moe, self.config.rms_norm_eps)

    def _lead(self, w: Weights, inputs: tuple[Any, ...], step: tuple[Any, ...], group: _Group) -> None:
        """Score with a full layer's indexer: the sampled rows to learn from, every row to select."""
        batch, tokens, rows_BR, topk = step
        normed_ND, latent_NQ, turn = inputs
        rope = self.mla.qk_rope_head_dim
        # The trunk does not learn from the index loss, nor the indexer from the token losses.
        query, key, head = self._index(normed_ND.detach(), latent_NQ.detach(), w, turn, (self.indexer, rope))
        query_BTJI = query.view(batch, tokens, self.indexer.index_n_heads, -1)
        key_BTI, head_BTJ = key.view(batch, tokens, -1), head.view(batch, tokens, -1)
        if rows_BR is not None:
            group.logits_BRS = self._row_scores(query_BTJI, key_BTI, head_BTJ, rows_BR)
        if topk is not None and topk < tokens:
            group.bias_BTS = self._select(query_BTJI, key_BTI, head_BTJ, topk)

    def _close(self, group: _Group, result: Pass, topk: int | None) -> None:
        """Add a finished group's KL( mean attention of its layers || indexer ) to the index loss."""
        if group.logits_BRS is None:
            return
        target_BRS = torch.stack(group.attention_BRS).mean(0)
        log_q_BRS = group.logits_BRS.log_softmax(-1)
        entropy = torch.special.xlogy(target_BRS, target_BRS).sum(-1)
        cross = (target_BRS * log_q_BRS.masked_fill(target_BRS == 0, 0.0)).sum(-1)
        loss = (entropy - cross).mean()
        result.index_loss = loss if result.index_loss is None else result.index_loss + loss
        if not self.measures_recall:
            return
        kept = min(topk or self.indexer.index_topk, target_BRS.shape[-1])
        chosen = group.logits_BRS.detach().topk(kept, dim=-1, sorted=False).indices
        result.recall.append(target_BRS.gather(-1, chosen).sum(-1).mean())


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `ReferenceKernels.rms_norm`: statistics in fp32, rounded to x's type before the weight."""
    wide = x.float() if x.dtype != torch.float64 else x
    return weight.to(x.dtype) * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Product in x's type; the kept weights are fp32."""
    return functional.linear(x, weight.to(x.dtype))


def before_attention(
    hidden_ND: Tensor, w: Weights, turn: tuple[Tensor, Tensor], mla: MlaConfig, eps: float
) -> tuple[Tensor, ...]:
    """The norm and the projections of attention in expanded form: (normed, query latent, query, key, value) rows."""
    angles = Angles(*turn)
    rows, heads = hidden_ND.shape[0], mla.num_attention_heads
    normed_ND = rms_norm(hidden_ND, w["input_layernorm.weight"], eps)
    latent_NQ = rms_norm(
        linear(normed_ND, w["self_attn.q_a_proj.weight"]), w["self_attn.q_a_layernorm.weight"], mla.latent_norm_eps
    )
    query = linear(latent_NQ, w["self_attn.q_b_proj.weight"]).view(rows, heads, -1)
    nope, rope = query[..., : mla.qk_nope_head_dim], query[..., mla.qk_nope_head_dim :]
    query = torch.cat([nope, rotate(rope, angles, is_interleaved=mla.is_rope_interleaved)], -1)
    compressed = linear(normed_ND, w["self_attn.kv_a_proj_with_mqa.weight"])
    latent_NC = rms_norm(compressed[:, : mla.kv_lora_rank], w["self_attn.kv_a_layernorm.weight"], mla.latent_norm_eps)
    shared = rotate(compressed[:, mla.kv_lora_rank :], angles, is_interleaved=mla.is_rope_interleaved)
    key = linear(latent_NC, w["self_attn.kv_b_proj.key"].flatten(0, 1)).view(rows, heads, -1)
    key = torch.cat([key, shared[:, None].expand(-1, heads, -1)], -1)
    value = linear(latent_NC, w["self_attn.kv_b_proj.value"].flatten(0, 1))
    return normed_ND, latent_NQ, query.flatten(1), key.flatten(1), value


def after_attention_dense(hidden_ND: Tensor, out_NX: Tensor, w: Weights, eps: float) -> Tensor:
    """Output projection and the dense network, each added to the residual stream."""
    hidden_ND = hidden_ND + linear(out_NX, w["self_attn.o_proj.weight"])
    normed_ND = rms_norm(hidden_ND, w["post_attention_layernorm.weight"], eps)
    return hidden_ND + _swiglu(normed_ND, w, "mlp.")


def after_attention_moe(
    hidden_ND: Tensor, out_NX: Tensor, w: Weights, moe: MoeConfig, eps: float
) -> tuple[Tensor, Tensor]:
    """Output projection, router and experts; also the share of choices that each expert got.

    Every expert is computed for every row, as one wide network whose inner values are scaled by the router's weights:
    at this size cheaper than sorting rows.
    """
    hidden_ND = hidden_ND + linear(out_NX, w["self_attn.o_proj.weight"])
    normed_ND = rms_norm(hidden_ND, w["post_attention_layernorm.weight"], eps)
    scores_NE = functional.linear(normed_ND.float(), w["mlp.gate.weight"]).sigmoid()
    chosen_NA = (scores_NE + w["mlp.gate.e_score_correction_bias"]).topk(moe.num_experts_per_tok, dim=-1).indices
    picked_NA = scores_NE.gather(1, chosen_NA)
    picked_NA = picked_NA / (picked_NA.sum(-1, keepdim=True) + 1e-20) * moe.routed_scaling_factor
    weights_NE = torch.zeros_like(scores_NE).scatter(1, chosen_NA, picked_NA)
    load_E = (weights_NE.detach() > 0).float().mean(0)
    gate, up = (linear(normed_ND, w[f"mlp.experts.{name}_proj.weight"].flatten(0, 1)) for name in ("gate", "up"))
    inner = (functional.silu(gate) * up).view(-1, moe.n_routed_experts, moe.moe_intermediate_size)
    inner = (inner * weights_NE[..., None].to(inner.dtype)).flatten(1)
    down = w["mlp.experts.down_proj.weight"].permute(1, 0, 2).flatten(1)
    return hidden_ND + linear(inner, down) + _swiglu(normed_ND, w, "mlp.shared_experts."), load_E


def _swiglu(x: Tensor, w: Weights, prefix: str) -> Tensor:
    gate, up = linear(x, w[f"{prefix}gate_proj.weight"]), linear(x, w[f"{prefix}up_proj.weight"])
    return linear(functional.silu(gate) * up, w[f"{prefix}down_proj.weight"])


def index_projections(
    normed_ND: Tensor, latent_NQ: Tensor, w: Weights, turn: tuple[Tensor, Tensor], sizes: tuple[IndexerConfig, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Indexer queries and keys after rotary, and the scaled fp32 weight of each head."""
    indexer, rope = sizes
    heads, width = indexer.index_n_heads, indexer.index_head_dim
    angles = Angles(*turn)
    prefix = "self_attn.indexer."
    query = linear(latent_NQ, w[f"{prefix}wq_b.weight"]).view(-1, heads, width)
    key = functional.layer_norm(
        linear(normed_ND, w[f"{prefix}wk.weight"]).float(),
        (width,),
        w[f"{prefix}k_norm.weight"],
        w[f"{prefix}k_norm.bias"],
        INDEXER_NORM_EPS,
    ).to(normed_ND.dtype)
    head = functional.linear(normed_ND.float(), w[f"{prefix}weights_proj.weight"]) * (heads * width) ** -0.5
    turned = [
        torch.cat([rotate(x[..., :rope], angles, is_interleaved=indexer.is_rope_interleaved), x[..., rope:]], -1)
        for x in (query, key)
    ]
    return turned[0], turned[1], head


def _taken(x: Tensor, rows_BR: Tensor, dim: int) -> Tensor:
    """Rows of each sequence; `dim` is the axis of tokens."""
    shape = [1] * x.dim()
    shape[0], shape[dim] = rows_BR.shape
    return torch.take_along_dim(x, rows_BR.view(shape), dim)


def _is_later(rows: Tensor, tokens: int) -> Tensor:
    return torch.arange(tokens, device=rows.device) > rows[..., None]


def attention_of_rows(query_BHTX: Tensor, key_BHTX: Tensor, rows_BR: Tensor, scale: float) -> Tensor:
    """Head-averaged attention distribution of some rows over all visible positions, [B, R, S], without gradient."""
    with torch.no_grad():
        some = _taken(query_BHTX.detach(), rows_BR, 2)
        scores = (some @ key_BHTX.detach().transpose(-1, -2)).float() * scale
        scores = scores.masked_fill(_is_later(rows_BR, key_BHTX.shape[2])[:, None], _LOWEST)
        return scores.softmax(-1).mean(1)


def scores_of_rows(query_BTJI: Tensor, key_BTI: Tensor, head_BTJ: Tensor, rows_BR: Tensor) -> Tensor:
    """Index scores of some rows, [B, R, S], later positions at minus infinity."""
    query, head = _taken(query_BTJI, rows_BR, 1), _taken(head_BTJ, rows_BR, 1)
    products = torch.einsum("brji,bsi->brjs", query, key_BTI).float().relu()
    scores = (products * head[..., None]).sum(2)
    return scores.masked_fill(_is_later(rows_BR, key_BTI.shape[1]), _LOWEST)


def selection_bias(query_BTJI: Tensor, key_BTI: Tensor, head_BTJ: Tensor, topk: int) -> Tensor:
    """Zero at each row's best positions, minus infinity elsewhere, [B, T, S], in the queries' type.

    Exact zeros are many, and the lower position wins among them: each position's score is lowered by a hair that only
    a zero feels. Other ties are too rare to matter in training.
    """
    with torch.no_grad():
        query, key, head = query_BTJI.detach(), key_BTI.detach(), head_BTJ.detach()
        tokens = key.shape[1]
        scores = torch.zeros(key.shape[0], tokens, tokens, device=key.device)
        for j in range(query.shape[2]):
            products = (query[:, :, j] @ key.transpose(1, 2)).float().relu()
            scores = scores + products * head[:, :, j, None]
        places = torch.arange(tokens, device=key.device)
        scores = scores - places * 1e-30
        scores = scores.masked_fill(places > places[:, None], _LOWEST)
        least = scores.topk(topk, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        is_kept = (scores >= least) & (places <= places[:, None])
        return torch.zeros_like(scores, dtype=query.dtype).masked_fill(~is_kept, _LOWEST)


def token_losses(hidden_ND: Tensor, embedding_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy of every row with the tied head."""
    logits = linear(hidden_ND, embedding_VD).float()
    return functional.cross_entropy(logits, targets_N, reduction="none")


def draft_input(embedded_ND: Tensor, trunk_ND: Tensor, w: Weights, eps: float) -> Tensor:
    """Join the next token's embedding and the trunk's row, embedding first."""
    joined = [
        rms_norm(embedded_ND.to(trunk_ND.dtype), w["enorm.weight"], eps),
        rms_norm(trunk_ND, w["hnorm.weight"], eps),
    ]
    return linear(torch.cat(joined, -1), w["eh_proj.weight"])


def fresh_parameters(config: ModelConfig, seed: int, device: torch.device) -> dict[str, Tensor]:
    """Random fp32 parameters: norms at one, biases at zero, matrices by their fan-in, outputs smaller."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for need in parameter_needs(config):
        name = need.name
        if name.endswith("bias"):
            value = torch.zeros(need.shape)
        elif len(need.shape) == 1:
            value = torch.ones(need.shape)
        else:
            value = torch.randn(need.shape, generator=generator) * _spread(name, need.shape[-1])
        parameters[name] = value.to(device)
    return parameters


def _spread(name: str, fan_in: int) -> float:
    if name == "model.embed_tokens.weight":
        return 0.03
    is_output = name.endswith(("o_proj.weight", "down_proj.weight"))
    return fan_in**-0.5 * (0.3 if is_output else 0.8)
