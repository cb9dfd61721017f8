"""A configuration and its parameters become a model that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from longlens.errors import ConfigError
from longlens.kernels.interface import ExpertBank, FeedForward, Kernels, Matrix, UpProjections
from longlens.model.config import SUPPORTED_ARCHITECTURES, GqaConfig, MlaConfig, ModelConfig
from longlens.model.experts import DenseFeedForward, MixtureOfExperts
from longlens.model.gqa import GqaAttention, GqaWeights, Projection
from longlens.model.indexer import Indexer, IndexerWeights
from longlens.model.layer import DecoderLayer, SubLayer
from longlens.model.mla import AttentionPolicy, MlaAttention, MlaPlace, MlaWeights
from longlens.model.rope import RotaryTable
from longlens.model.router import Router
from longlens.model.state import CacheElement, cache_spec_of
from longlens.model.transformer import Ends, Transformer


class ParameterStore(Protocol):
    """Gives out parameters by the names of `model/needs.py`, on the device and in the type they are used in."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        ...

    def tensor(self, name: str) -> Tensor:
        """One parameter, expanded."""
        ...

    def matrix(self, name: str) -> Matrix:
        """One parameter that is only multiplied with or looked up in: packed if the kernels can use it so."""
        ...

    def up_projections(self, prefix: str) -> UpProjections:
        """`kv_b_proj` of one layer's attention, per head: packed if the kernels can use it so."""
        ...

    def experts(self, prefix: str) -> ExpertBank:
        """The routed experts of one layer; `prefix` ends in "mlp.experts."."""
        ...


@dataclass(frozen=True)
class RunChoices:
    """What the plan decides about a model's arithmetic.

    Attributes:
        cache_element: how cached rows are stored.
        policy: which of the equal ways to compute attention is used; None follows the configuration.
    """

    cache_element: CacheElement
    policy: AttentionPolicy | None = None


def build_model(config: ModelConfig, store: ParameterStore, kernels: Kernels, choices: RunChoices) -> Transformer:
    """Put a model together.

    Args:
        config: from the checkpoint.
        store: gives out every parameter that `parameter_needs(config)` lists.
        kernels: the operations to compute with.
        choices: from the plan.
    """
    builder = _Builder(config, store, kernels, choices)
    factors = store.tensor("model.rope_freqs") if config.rope.has_factor_tensor else None
    embedding = store.matrix("model.embed_tokens.weight")
    ends = Ends(
        embedding_VD=embedding,
        norm_D=store.tensor("model.norm.weight"),
        head_VD=embedding if config.tie_word_embeddings else store.matrix("lm_head.weight"),
    )
    return Transformer(
        config,
        cache_spec_of(config, choices.cache_element),
        ends,
        [builder.layer(layer) for layer in range(config.num_hidden_layers)],
        RotaryTable(config.rope, store.device, factors),
        kernels,
    )


class _Builder:
    def __init__(self, config: ModelConfig, store: ParameterStore, kernels: Kernels, choices: RunChoices) -> None:
        self._config = config
        self._store = store
        self._kernels = kernels
        self._choices = choices

    def layer(self, layer: int) -> DecoderLayer:
        prefix = f"model.layers.{layer}."
        norms = (
            self._store.tensor(f"{prefix}input_layernorm.weight"),
            self._store.tensor(f"{prefix}post_attention_layernorm.weight"),
        )
        attention = self._attention(layer, f"{prefix}self_attn.")
        feed_forward = self._feed_forward(layer, f"{prefix}mlp.")
        return DecoderLayer(norms, self._config.rms_norm_eps, attention, feed_forward, self._kernels)

    def _attention(self, layer: int, prefix: str) -> SubLayer:
        attention = self._config.attention
        if isinstance(attention, GqaConfig):
            return GqaAttention(attention, self._config.rope, layer, self._gqa_weights(prefix), self._kernels)
        return self._mla(attention, layer, prefix)

    def _mla(self, mla: MlaConfig, layer: int, prefix: str) -> MlaAttention:
        indexing = self._config.indexer
        if indexing is None:
            raise ConfigError(
                "the model has latent attention but no indexer",
                f"longlens runs {', '.join(SUPPORTED_ARCHITECTURES)}; MLA in them always has an indexer",
            )
        policy = self._choices.policy or AttentionPolicy(gather_above_tokens=2 * indexing.index_topk)
        leader = indexing.leader_of(layer)
        indexer = None
        if leader == layer:
            weights = self._indexer_weights(f"{prefix}indexer.")
            indexer = Indexer(indexing, mla.qk_rope_head_dim, layer, weights, self._kernels)
        place = MlaPlace(layer, leader, indexing.index_topk)
        return MlaAttention(mla, place, self._mla_weights(prefix), indexer, self._kernels, policy)

    def _mla_weights(self, prefix: str) -> MlaWeights:
        get, matrix = self._store.tensor, self._store.matrix
        return MlaWeights(
            q_a_proj=matrix(f"{prefix}q_a_proj.weight"),
            q_a_layernorm=get(f"{prefix}q_a_layernorm.weight"),
            q_b_proj=matrix(f"{prefix}q_b_proj.weight"),
            kv_a_proj_with_mqa=matrix(f"{prefix}kv_a_proj_with_mqa.weight"),
            kv_a_layernorm=get(f"{prefix}kv_a_layernorm.weight"),
            kv_b_proj=self._store.up_projections(f"{prefix}kv_b_proj."),
            o_proj=matrix(f"{prefix}o_proj.weight"),
        )

    def _indexer_weights(self, prefix: str) -> IndexerWeights:
        get = self._store.tensor
        return IndexerWeights(
            wq_b=self._store.matrix(f"{prefix}wq_b.weight"),
            wk=self._store.matrix(f"{prefix}wk.weight"),
            k_norm_weight=get(f"{prefix}k_norm.weight"),
            k_norm_bias=get(f"{prefix}k_norm.bias"),
            weights_proj=get(f"{prefix}weights_proj.weight"),
        )

    def _gqa_weights(self, prefix: str) -> GqaWeights:
        has_bias = isinstance(self._config.attention, GqaConfig) and self._config.attention.attention_bias
        q, k, v, o = (
            Projection(
                self._store.matrix(f"{prefix}{name}_proj.weight"),
                self._store.tensor(f"{prefix}{name}_proj.bias") if has_bias else None,
            )
            for name in "qkvo"
        )
        return GqaWeights(q, k, v, o)

    def _feed_forward(self, layer: int, prefix: str) -> SubLayer:
        moe = self._config.moe
        if moe is None or not moe.is_sparse[layer]:
            return DenseFeedForward(self._swiglu(prefix, has_bias=self._config.mlp_bias), self._kernels)
        router = Router(
            moe,
            self._store.tensor(f"{prefix}gate.weight"),
            self._store.tensor(f"{prefix}gate.e_score_correction_bias"),
        )
        shared = self._swiglu(f"{prefix}shared_experts.", has_bias=False) if moe.n_shared_experts else None
        return MixtureOfExperts(layer, router, self._store.experts(f"{prefix}experts."), shared, self._kernels)

    def _swiglu(self, prefix: str, *, has_bias: bool) -> FeedForward:
        names = [f"{prefix}{name}_proj" for name in ("gate", "up", "down")]
        gate, up, down = (self._store.matrix(f"{name}.weight") for name in names)
        biases = [self._store.tensor(f"{name}.bias") if has_bias else None for name in names]
        return FeedForward(gate, up, down, *biases)
