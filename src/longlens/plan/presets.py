"""Published models by name: what can be planned for without a file.

A preset is the model's config.json, cut down to the keys that decide something, and read as any config.json is, so
that no schedule and no rotary rule is written twice. Presets are made when they are asked for.

Source: config.json of each repository; transformers 5.23, configuration_glm_moe_dsa.py, configuration_deepseek_v32.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from longlens.formats.checkpoint import open_checkpoint
from longlens.hub.reference import PocketReference, resolve_local
from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.config_reading import read_config

Keys = Mapping[str, object]

_HUB = "https://huggingface.co/"
_ARTICLE_NOTE = (
    "no such checkpoint exists: it is the geometry behind the tables of an article on GLM-5.2, named so that they can "
    "be computed again"
)


@dataclass(frozen=True)
class ModelPreset:
    """A model that can be planned for by name.

    Attributes:
        name: lower case, as it is typed.
        title: as its makers write it.
        config: what its config.json says.
        source: where the figures come from.
        note: what one must know before believing a plan for it.
        repositories: "organisation/name" of the repositories that hold this geometry.
    """

    name: str
    title: str
    config: ModelConfig
    source: str
    note: str = ""
    repositories: tuple[str, ...] = ()


_GLM: Keys = {
    "model_type": "glm_moe_dsa",
    "vocab_size": 154_880,
    "hidden_size": 6144,
    "intermediate_size": 12_288,
    "num_hidden_layers": 78,
    "num_nextn_predict_layers": 1,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "max_position_embeddings": 202_752,
    "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
    "rope_interleave": True,
    "num_attention_heads": 64,
    "q_lora_rank": 2048,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "v_head_dim": 256,
    "index_n_heads": 32,
    "index_head_dim": 128,
    "index_topk": 2048,
    "indexer_rope_interleave": True,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "n_group": 1,
    "topk_group": 1,
}
_GLM_5_2: Keys = {
    **_GLM,
    "max_position_embeddings": 1_048_576,
    "rope_parameters": {"rope_theta": 8e6, "rope_type": "default"},
    "index_topk_freq": 4,
    "index_skip_topk_offset": 3,
}
# Layers 0 and 1 are dense; the schedule is GLM-5.2's, which gives the full layers {0, 1, 2, 6, ..., 22} of 26.
_GLM_5_2_64B: Keys = {
    **_GLM_5_2,
    "hidden_size": 4096,
    "num_hidden_layers": 26,
    "num_nextn_predict_layers": 0,
    "q_lora_rank": 1536,
    "n_routed_experts": 128,
    "moe_intermediate_size": 1536,
    "first_k_dense_replace": 2,
}
_DEEPSEEK_V3_2: Keys = {
    **_GLM,
    "model_type": "deepseek_v32",
    "vocab_size": 129_280,
    "hidden_size": 7168,
    "intermediate_size": 18_432,
    "num_hidden_layers": 61,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 163_840,
    "rope_parameters": {
        "rope_theta": 1e4,
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
    "indexer_rope_interleave": False,
    "num_attention_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "index_n_heads": 64,
    "n_group": 8,
    "topk_group": 4,
}
_SMOLLM2_135M: Keys = {
    "model_type": "llama",
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
    "rope_theta": 1e5,
}


def _published(name: str, title: str, keys: Keys, *repositories: str, note: str = "") -> ModelPreset:
    config = read_huggingface_config(keys, source=f"the preset {name}").config
    return ModelPreset(name, title, config, f"{_HUB}{repositories[0]}, config.json", note, repositories)


def _article() -> ModelPreset:
    name = "glm-5.2-64b"
    config = read_huggingface_config(_GLM_5_2_64B, source=f"the preset {name}").config
    return ModelPreset(name, "GLM-5.2-64B (an article's geometry)", config, "own arithmetic", _ARTICLE_NOTE)


def _pocket() -> ModelPreset:
    with open_checkpoint(resolve_local(PocketReference())) as checkpoint:
        config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
    return ModelPreset("pocket", "pocket", config, "the file that longlens is shipped with")


_MAKERS: Mapping[str, Callable[[], ModelPreset]] = MappingProxyType(
    {
        "glm-5": lambda: _published("glm-5", "GLM-5", _GLM, "zai-org/GLM-5"),
        "glm-5.1": lambda: _published("glm-5.1", "GLM-5.1", _GLM, "zai-org/GLM-5.1"),
        "glm-5.2": lambda: _published("glm-5.2", "GLM-5.2", _GLM_5_2, "zai-org/GLM-5.2"),
        "glm-5.3": lambda: _published(
            "glm-5.3", "GLM-5.3", _GLM_5_2, "zai-org/GLM-5.3", note="published as block FP8 only"
        ),
        "glm-5.2-64b": _article,
        "deepseek-v3.2": lambda: _published(
            "deepseek-v3.2",
            "DeepSeek-V3.2",
            _DEEPSEEK_V3_2,
            "deepseek-ai/DeepSeek-V3.2",
            "deepseek-ai/DeepSeek-V3.2-Exp",
            note="published as block FP8 only",
        ),
        "pocket": _pocket,
        "smollm2-135m": lambda: _published(
            "smollm2-135m",
            "SmolLM2-135M",
            _SMOLLM2_135M,
            "HuggingFaceTB/SmolLM2-135M",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
    }
)


@cache
def _made(name: str) -> ModelPreset:
    return _MAKERS[name]()


class _Presets(Mapping[str, ModelPreset]):
    """All presets by name; each is made when it is first asked for."""

    def __getitem__(self, name: str) -> ModelPreset:
        return _made(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MAKERS)

    def __len__(self) -> int:
        return len(_MAKERS)


MODEL_PRESETS: Mapping[str, ModelPreset] = _Presets()


def find_preset(name: str) -> ModelPreset | None:
    """Find a preset by its name or by the name of its repository; case does not count. None where there is none."""
    wanted = name.strip().lower()
    if wanted in MODEL_PRESETS:
        return MODEL_PRESETS[wanted]
    if "/" not in wanted:
        return None
    presets = (MODEL_PRESETS[known] for known in MODEL_PRESETS if known != "pocket")
    return next((preset for preset in presets if wanted in map(str.lower, preset.repositories)), None)
