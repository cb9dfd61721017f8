"""What a checkpoint says about its model, checked once and then only read.

Dimensions keep the checkpoint's names, so that one search finds the paper, transformers and this code. Three readers
make these records: `config_huggingface` from config.json, `config_gguf` from GGUF metadata, and tests by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longlens.errors import ConfigError

Architecture = Literal["glm_moe_dsa", "deepseek_v32", "llama"]
SUPPORTED_ARCHITECTURES: tuple[Architecture, ...] = ("glm_moe_dsa", "deepseek_v32", "llama")

INDEXER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class YarnScaling:
    """YaRN's rotary scaling, with DeepSeek's two amplitude terms.

    Source: arXiv 2309.00071; transformers, `_compute_yarn_parameters`.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    attention_factor: float | None = None


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's rotary scaling. Source: transformers, `_compute_llama3_parameters`."""

    factor: float
    original_max_position_embeddings: int
    low_freq_factor: float
    high_freq_factor: float


@dataclass(frozen=True)
class LinearScaling:
    """Positions divided by a factor."""

    factor: float


RopeScaling = YarnScaling | Llama3Scaling | LinearScaling


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding of a model.

    Attributes:
        theta: base of the frequencies.
        dim: rotated dims of a head.
        is_interleaved: pairs are (2j, 2j+1) when true, (j, j + dim / 2) when false.
        scaling: how long contexts stretch the frequencies, if at all.
        has_factor_tensor: the checkpoint carries a tensor that divides each frequency (GGUF's `rope_freqs`).
    """

    theta: float
    dim: int
    is_interleaved: bool
    scaling: RopeScaling | None = None
    has_factor_tensor: bool = False


@dataclass(frozen=True)
class MlaConfig:
    """Multi-head latent attention.

    Attributes:
        latent_norm_eps: eps of `q_a_layernorm` and `kv_a_layernorm`.
        is_rope_interleaved: `rope_interleave`: pairs of the rotary are (2j, 2j+1), or (j, j + R/2) when false.
    """

    num_attention_heads: int
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    latent_norm_eps: float
    softmax_scale: float
    attention_bias: bool = False
    is_rope_interleaved: bool = True

    @property
    def qk_head_dim(self) -> int:
        """Width of a query head: no-rope dims, then rope dims."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_width(self) -> int:
        """Cached values a token and layer: the latent, then the shared rope key."""
        return self.kv_lora_rank + self.qk_rope_head_dim


@dataclass(frozen=True)
class GqaConfig:
    """Grouped-query attention of the llama architecture."""

    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    attention_bias: bool = False


@dataclass(frozen=True)
class IndexerConfig:
    """The lightning indexer and the layers that own one.

    Attributes:
        is_full: one entry a decoder layer; false means that the layer reuses the last full layer's positions.
    """

    index_n_heads: int
    index_head_dim: int
    index_topk: int
    is_rope_interleaved: bool
    is_full: tuple[bool, ...]

    @property
    def full_layers(self) -> tuple[int, ...]:
        """Numbers of the layers that own an indexer."""
        return tuple(layer for layer, full in enumerate(self.is_full) if full)

    def leader_of(self, layer: int) -> int:
        """The full layer whose positions this layer uses (itself when it is full)."""
        return max(full for full in self.full_layers if full <= layer)


@dataclass(frozen=True)
class MoeConfig:
    """Mixture of experts, DeepSeek's sigmoid router ("noaux_tc")."""

    n_routed_experts: int
    num_experts_per_tok: int
    n_shared_experts: int
    moe_intermediate_size: int
    n_group: int
    topk_group: int
    norm_topk_prob: bool
    routed_scaling_factor: float
    is_sparse: tuple[bool, ...]


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the mathematics of a checkpoint depends on."""

    architecture: Architecture
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_nextn_predict_layers: int
    rms_norm_eps: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    rope: RopeConfig
    attention: MlaConfig | GqaConfig
    indexer: IndexerConfig | None = None
    moe: MoeConfig | None = None
    mlp_bias: bool = False

    def __post_init__(self) -> None:
        """Check what one record cannot see alone."""
        _check_indexer(self)
        _check_moe(self)
        _check_heads(self)

    @property
    def gather_threshold_tokens(self) -> int | None:
        """Cached tokens above which attention gathers selected rows; None for models without an indexer."""
        return None if self.indexer is None else 2 * self.indexer.index_topk


@dataclass(frozen=True)
class ConfigReading:
    """A configuration and the keys of the file that nothing asked for."""

    config: ModelConfig
    unknown_keys: tuple[str, ...]


def _check_heads(config: ModelConfig) -> None:
    rope, attention = config.rope, config.attention
    mend = "check the checkpoint's configuration"
    if rope.dim < 2 or rope.dim % 2:
        raise ConfigError(f"rotary size {rope.dim} is not a number of pairs", mend)
    if rope.theta <= 1:
        raise ConfigError(f"rope_theta {rope.theta} turns every pair alike", mend)
    if isinstance(attention, MlaConfig):
        if attention.qk_nope_head_dim < 1:
            raise ConfigError(
                f"a query head of {attention.qk_head_dim} dims leaves none beside {rope.dim} rotary", mend
            )
        return
    if rope.dim > attention.head_dim:
        raise ConfigError(f"rotary size {rope.dim} exceeds the head's {attention.head_dim} dims", mend)
    if attention.num_attention_heads % attention.num_key_value_heads:
        raise ConfigError(
            f"num_attention_heads {attention.num_attention_heads} is not a multiple of "
            f"num_key_value_heads {attention.num_key_value_heads}",
            mend,
        )


def _check_indexer(config: ModelConfig) -> None:
    indexer = config.indexer
    if indexer is None:
        return
    if len(indexer.is_full) != config.num_hidden_layers:
        raise ConfigError(
            f"indexer_types names {len(indexer.is_full)} layers, the model has {config.num_hidden_layers}",
            "give one entry a layer, or remove the key to use index_topk_freq and index_skip_topk_offset",
        )
    if not indexer.is_full[0]:
        raise ConfigError(
            'layer 0 is "shared", but no full layer comes before it',
            'indexer_types must begin with "full"',
        )
    if isinstance(config.attention, MlaConfig) and config.attention.qk_rope_head_dim > indexer.index_head_dim:
        raise ConfigError(
            f"index_head_dim {indexer.index_head_dim} is smaller than qk_rope_head_dim "
            f"{config.attention.qk_rope_head_dim}",
            "the indexer rotates its first qk_rope_head_dim dims; check the checkpoint's configuration",
        )


def _check_moe(config: ModelConfig) -> None:
    moe = config.moe
    if moe is None:
        return
    if len(moe.is_sparse) != config.num_hidden_layers:
        raise ConfigError(
            f"mlp_layer_types names {len(moe.is_sparse)} layers, the model has {config.num_hidden_layers}",
            "give one entry a layer",
        )
    if moe.n_routed_experts % moe.n_group or moe.topk_group > moe.n_group:
        raise ConfigError(
            f"{moe.n_routed_experts} experts do not form {moe.n_group} groups of which {moe.topk_group} are kept",
            "n_group must divide n_routed_experts, and topk_group must not exceed it",
        )
    reachable = moe.n_routed_experts // moe.n_group * moe.topk_group
    if moe.num_experts_per_tok > reachable:
        raise ConfigError(
            f"num_experts_per_tok {moe.num_experts_per_tok} exceeds the {reachable} experts that can be chosen",
            "check num_experts_per_tok, n_routed_experts, n_group and topk_group",
        )
    if moe.n_group > 1 and moe.n_routed_experts // moe.n_group < 2:
        raise ConfigError(
            "a group of experts has one member, but groups are ranked by their two best",
            "check n_group and n_routed_experts",
        )
