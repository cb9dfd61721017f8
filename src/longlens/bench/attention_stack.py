"""Stacks of attention layers of one size and four kinds, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from longlens.errors import UsageError
from longlens.kernels.choose import KernelChoice
from longlens.kernels.interface import MlaUpProjections
from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig
from longlens.model.gqa import GqaAttention, GqaWeights, Projection
from longlens.model.indexer import Indexer, IndexerWeights
from longlens.model.mla import AttentionPolicy, MlaAttention, MlaPlace, MlaWeights
from longlens.model.step import Step

AttentionKind = Literal["gqa", "dense mla", "dsa", "index share"]
ATTENTION_KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)

_KEY_HEADS, _HEAD_DIM = 8, 128
_GROUP = 4  # a full layer and three shared ones
_EVERYTHING = 2**62


class AttentionLayer(Protocol):
    """Attention of one layer."""

    def forward(self, step: Step, hidden_TD: Tensor) -> Tensor:
        """Attend, for all sequences of a step."""
        ...


@dataclass(frozen=True)
class Stack:
    """Layers of one kind of attention, and the configuration that their cache is laid out by."""

    kind: AttentionKind
    config: ModelConfig
    layers: tuple[AttentionLayer, ...]


@dataclass(frozen=True)
class StackSize:
    """What all kinds share: the geometry of a model with latent attention, and how many layers are stacked."""

    config: ModelConfig
    num_layers: int

    def __post_init__(self) -> None:
        if not isinstance(self.config.attention, MlaConfig) or self.config.indexer is None:
            raise UsageError("the geometry has no latent attention with an indexer", "choose mid or glm-5.2")
        if self.num_layers < 1:
            raise UsageError(f"{self.num_layers} layers are no stack", "ask for at least one")


def stack_config(kind: AttentionKind, size: StackSize) -> ModelConfig:
    """The configuration of one kind: the size's, with another attention and schedule, and no experts.

    The query heads of grouped-query attention are as many as the latent attention's, in whole groups of its 8 key
    heads.
    """
    config = replace(size.config, moe=None, num_hidden_layers=size.num_layers, num_nextn_predict_layers=0, indexer=None)
    mla, indexer = size.config.attention, size.config.indexer
    if kind == "gqa":
        heads = -(-mla.num_attention_heads // _KEY_HEADS) * _KEY_HEADS
        rope = replace(config.rope, dim=_HEAD_DIM)
        return replace(config, architecture="llama", rope=rope, attention=GqaConfig(heads, _KEY_HEADS, _HEAD_DIM))
    if kind == "dense mla" or indexer is None:
        return config
    step = 1 if kind == "dsa" else _GROUP
    is_full = tuple(layer % step == 0 for layer in range(size.num_layers))
    return replace(config, indexer=replace(indexer, is_full=is_full))


def build_stack(kind: AttentionKind, size: StackSize, choice: KernelChoice, dtype: torch.dtype, *, seed: int) -> Stack:
    """Build the layers of one kind.

    Args:
        kind: which.
        size: geometry and depth of the stack.
        choice: device and kernels.
        dtype: of weights and activations.
        seed: of the weights.
    """
    config = stack_config(kind, size)
    weights = _RandomWeights(choice.device, dtype, seed)
    if isinstance(config.attention, GqaConfig):
        gqa = config.attention
        layers = [
            GqaAttention(gqa, config.rope, layer, _gqa_weights(config, gqa, weights), choice.kernels)
            for layer in range(size.num_layers)
        ]
        return Stack(kind, config, tuple(layers))
    mla = config.attention
    return Stack(
        kind, config, tuple(_mla_layer(config, mla, layer, choice, weights) for layer in range(size.num_layers))
    )


class _RandomWeights:
    """Matrices that keep the size of what they are given."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int) -> None:
        self._device = device
        self._dtype = dtype
        self._generator = torch.Generator(device).manual_seed(seed)

    def matrix(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        values = torch.randn(*shape, generator=self._generator, device=self._device, dtype=torch.float32)
        scaled: Tensor = values * shape[-1] ** -0.5
        return scaled.to(dtype or self._dtype)

    def ones(self, size: int) -> Tensor:
        return torch.ones(size, device=self._device, dtype=self._dtype)


def _gqa_weights(config: ModelConfig, gqa: GqaConfig, weights: _RandomWeights) -> GqaWeights:
    queries, keys = gqa.num_attention_heads * gqa.head_dim, gqa.num_key_value_heads * gqa.head_dim
    hidden = config.hidden_size
    return GqaWeights(
        q_proj=Projection(weights.matrix(queries, hidden)),
        k_proj=Projection(weights.matrix(keys, hidden)),
        v_proj=Projection(weights.matrix(keys, hidden)),
        o_proj=Projection(weights.matrix(hidden, queries)),
    )


def _mla_layer(
    config: ModelConfig, mla: MlaConfig, layer: int, choice: KernelChoice, weights: _RandomWeights
) -> MlaAttention:
    indexing = config.indexer
    if indexing is None:
        # Every visible position is attended to, so the carry of positions is never looked at.
        place, policy, indexer = MlaPlace(layer, 0, _EVERYTHING), AttentionPolicy(_EVERYTHING), None
    else:
        place = MlaPlace(layer, indexing.leader_of(layer), indexing.index_topk)
        policy = AttentionPolicy(gather_above_tokens=2 * indexing.index_topk)
        indexer = _indexer(config, mla, indexing, layer, choice, weights) if indexing.is_full[layer] else None
    return MlaAttention(mla, place, _mla_weights(config, mla, weights), indexer, choice.kernels, policy)


def _mla_weights(config: ModelConfig, mla: MlaConfig, weights: _RandomWeights) -> MlaWeights:
    heads, hidden = mla.num_attention_heads, config.hidden_size
    return MlaWeights(
        q_a_proj=weights.matrix(mla.q_lora_rank, hidden),
        q_a_layernorm=weights.ones(mla.q_lora_rank),
        q_b_proj=weights.matrix(heads * mla.qk_head_dim, mla.q_lora_rank),
        kv_a_proj_with_mqa=weights.matrix(mla.latent_width, hidden),
        kv_a_layernorm=weights.ones(mla.kv_lora_rank),
        kv_b_proj=MlaUpProjections(
            weights.matrix(heads, mla.qk_nope_head_dim, mla.kv_lora_rank),
            weights.matrix(heads, mla.v_head_dim, mla.kv_lora_rank),
        ),
        o_proj=weights.matrix(hidden, heads * mla.v_head_dim),
    )


def _indexer(
    config: ModelConfig,
    mla: MlaConfig,
    indexing: IndexerConfig,
    layer: int,
    choice: KernelChoice,
    weights: _RandomWeights,
) -> Indexer:
    heads, width = indexing.index_n_heads, indexing.index_head_dim
    own = IndexerWeights(
        wq_b=weights.matrix(heads * width, mla.q_lora_rank),
        wk=weights.matrix(width, config.hidden_size),
        k_norm_weight=weights.ones(width),
        k_norm_bias=torch.zeros_like(weights.ones(width)),
        weights_proj=weights.matrix(heads, config.hidden_size, dtype=torch.float32),
    )
    return Indexer(indexing, mla.qk_rope_head_dim, layer, own, choice.kernels)
