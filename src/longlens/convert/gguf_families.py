"""GGUF metadata for every architecture that longlens runs.

Source: llama.cpp, src/models/{deepseek32,llama}.cpp and its converter; `longlens.model.config_gguf` is the way back.
"""

from __future__ import annotations

from dataclasses import replace

from longlens.convert.gguf_metadata import ARCHITECTURE, metadata_of_config
from longlens.convert.gguf_writer import MetadataValue
from longlens.errors import UnsupportedModelError
from longlens.model.config import GqaConfig, ModelConfig, RopeScaling, YarnScaling

_DEEPSEEK, _LLAMA = "deepseek32", "llama"


def metadata_of_any_config(config: ModelConfig) -> dict[str, MetadataValue]:
    """Return everything that the model's mathematics depends on, `general.architecture` first.

    Raises:
        UnsupportedModelError: a configuration that the architecture's layout cannot say.
    """
    if config.architecture == "llama":
        return {"general.architecture": _LLAMA, **_llama(config)}
    if config.architecture == "deepseek_v32":
        return {"general.architecture": _DEEPSEEK, **_deepseek(config)}
    return {"general.architecture": ARCHITECTURE, **metadata_of_config(config)}


def _deepseek(config: ModelConfig) -> dict[str, MetadataValue]:
    """GLM's keys under another name, and YaRN's."""
    like_glm = replace(config, architecture="glm_moe_dsa", rope=replace(config.rope, scaling=None))
    keys = {key.removeprefix(f"{ARCHITECTURE}."): value for key, value in metadata_of_config(like_glm).items()}
    keys |= _scaling(config.rope.scaling)
    return {f"{_DEEPSEEK}.{key}": value for key, value in keys.items()}


def _scaling(scaling: RopeScaling | None) -> dict[str, MetadataValue]:
    if scaling is None:
        return {}
    is_sayable = isinstance(scaling, YarnScaling) and scaling.mscale == scaling.mscale_all_dim
    if not isinstance(scaling, YarnScaling) or not is_sayable or scaling.attention_factor is not None:
        raise UnsupportedModelError(
            f"the rotary scaling {type(scaling).__name__} cannot be written as GGUF", "use llama.cpp's converter"
        )
    return {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": float(scaling.factor),
        "rope.scaling.original_context_length": scaling.original_max_position_embeddings,
        "rope.scaling.yarn_log_multiplier": 0.1 * scaling.mscale_all_dim,
        "rope.scaling.yarn_beta_fast": float(scaling.beta_fast),
        "rope.scaling.yarn_beta_slow": float(scaling.beta_slow),
    }


def _llama(config: ModelConfig) -> dict[str, MetadataValue]:
    attention, rope = config.attention, config.rope
    if not isinstance(attention, GqaConfig) or rope.scaling is not None:
        raise UnsupportedModelError(
            "a llama with scaled rotary embedding cannot be written as GGUF", "use llama.cpp's converter"
        )
    keys: dict[str, MetadataValue] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "attention.head_count": attention.num_attention_heads,
        "attention.head_count_kv": attention.num_key_value_heads,
        "attention.key_length": attention.head_dim,
        "attention.value_length": attention.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": rope.dim,
        "rope.freq_base": float(rope.theta),
    }
    return {f"{_LLAMA}.{key}": value for key, value in keys.items()}
