"""Bytes of a cached token in every format that is in use for such models, those that longlens does not store included.

Source: the layouts of FlashMLA's and vLLM's sparse backends (fp8_ds_mla: 512 fp8 values, four fp32 scales, 64 bf16
rotary values; nvfp4_ds_mla: packed 4-bit values, fp8 rotary values and scales), DeepGEMM's for fp8 index keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from longlens.model.config import GqaConfig, MlaConfig, ModelConfig
from longlens.model.state import ELEMENT_BYTES
from longlens.plan.flops import COMPARED_HEAD_DIM, COMPARED_KV_HEADS

_BF16, _FP8, _SCALE = 2, 1, 4
_VALUES_PER_SCALE = 128
_VALUES_PER_NVFP4_SCALE = 16


@dataclass(frozen=True)
class CacheFormat:
    """What one token takes over all layers.

    Attributes:
        name: as in the tables.
        row_bytes: latents, or keys and values.
        index_bytes: index keys.
    """

    name: str
    row_bytes: int
    index_bytes: int

    @property
    def is_stored(self) -> bool:
        """Whether longlens can store it today."""
        return self.name in ELEMENT_BYTES

    @property
    def bytes_per_token(self) -> int:
        """Rows and index keys."""
        return self.row_bytes + self.index_bytes

    def bytes_at(self, context: int) -> int:
        """Bytes of one sequence of this length."""
        return context * self.bytes_per_token


def cache_formats(config: ModelConfig) -> tuple[CacheFormat, ...]:
    """List the formats of a model, the ones that longlens stores first, and what other attention would store."""
    if isinstance(config.attention, GqaConfig):
        return _grouped_formats(config, config.attention)
    return _latent_formats(config, config.attention) + _compared_formats(config, config.attention)


def _latent_formats(config: ModelConfig, mla: MlaConfig) -> tuple[CacheFormat, ...]:
    layers = config.num_hidden_layers
    full = 0 if config.indexer is None else len(config.indexer.full_layers)
    keys = 0 if config.indexer is None else config.indexer.index_head_dim
    width, latent, rope = mla.latent_width, mla.kv_lora_rank, mla.qk_rope_head_dim
    scaled = latent * _FP8 + -(-latent // _VALUES_PER_SCALE) * _SCALE + rope * _BF16
    packed = latent // 2 + rope * _FP8 + latent // _VALUES_PER_NVFP4_SCALE * _FP8
    bf16_key, scaled_key = keys * _BF16, (keys + _SCALE) if keys else 0

    def made(name: str, row: int, key: int, owners: int) -> CacheFormat:
        return CacheFormat(name, layers * row, owners * key)

    formats = [
        made("f32", width * 4, keys * 4, full),
        made("bf16", width * _BF16, bf16_key, full),
        made("bf16, index keys on all layers", width * _BF16, bf16_key, layers),
        made("bf16, fp8 index keys", width * _BF16, scaled_key, full),
        made("fp8_ds_mla, fp8 index keys", scaled, scaled_key, full),
        made("fp8_ds_mla, fp8 index keys on all layers", scaled, scaled_key, layers),
        made("plain fp8, fp8 index keys", width * _FP8, scaled_key, full),
        made("int8 with a scale a row, int8 index keys", width + _SCALE, scaled_key, full),
        made("nvfp4_ds_mla, fp8 index keys", packed, scaled_key, full),
    ]
    return tuple(formats)


def _compared_formats(config: ModelConfig, mla: MlaConfig) -> tuple[CacheFormat, ...]:
    layers, heads = config.num_hidden_layers, mla.num_attention_heads
    wide = mla.qk_head_dim
    expanded = heads * (mla.qk_head_dim + mla.v_head_dim) * _BF16
    return (
        CacheFormat(
            f"GQA {COMPARED_KV_HEADS}x{COMPARED_HEAD_DIM}, bf16", layers * _grouped_row(COMPARED_HEAD_DIM, _BF16), 0
        ),
        CacheFormat(f"GQA {COMPARED_KV_HEADS}x{wide}, bf16", layers * _grouped_row(wide, _BF16), 0),
        CacheFormat("the same attention expanded, bf16", layers * expanded, 0),
    )


def _grouped_formats(config: ModelConfig, gqa: GqaConfig) -> tuple[CacheFormat, ...]:
    values = config.num_hidden_layers * 2 * gqa.num_key_value_heads * gqa.head_dim
    rows = config.num_hidden_layers * 2 * gqa.num_key_value_heads
    return (
        CacheFormat("f32", values * 4, 0),
        CacheFormat("bf16", values * _BF16, 0),
        CacheFormat("plain fp8", values * _FP8, 0),
        CacheFormat("int8 with a scale a head", values + rows * _SCALE, 0),
    )


def _grouped_row(head_dim: int, value_bytes: int) -> int:
    return COMPARED_KV_HEADS * 2 * head_dim * value_bytes
