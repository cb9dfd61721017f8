"""Tiny random models whose every number can be made again, by anyone, for ever.

The models are defined here once: the scripts beside this file run them through independent
implementations and record what comes out; the tests run them through ours. Only numpy is needed.

Every weight is an integer hash (splitmix64) of (seed, name of the tensor, place in the tensor), so
no library's random generator is part of the definition. Every norm weight, norm bias and router
bias is random too: an implementation that forgets one cannot agree.

Source: layout and names of the checkpoint, `zai-org/GLM-5.2` (docs of the family in transformers
5.23, `models/glm_moe_dsa`, `models/deepseek_v32`, `models/llama`); splitmix64, Steele et al. 2014.
"""

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

Config = dict[str, Any]
Weights = dict[str, np.ndarray]

WEIGHT_SEED = 20260616
"""Seed of the weights of every case whose recorded arrays lie beside this file."""

_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
_SCHEDULE = {"F": "full", "S": "shared"}


def _glm(schedule: str, index_topk: int, **changes: Any) -> Config:
    """A `glm_moe_dsa` config in the checkpoint's spelling; every dimension differs from the others."""
    config: Config = {
        "architectures": ["GlmMoeDsaForCausalLM"],
        "model_type": "glm_moe_dsa",
        "dtype": "float32",
        "vocab_size": 320,
        "hidden_size": 64,
        "num_hidden_layers": len(schedule),
        "num_nextn_predict_layers": 0,
        "intermediate_size": 112,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "eos_token_id": [1, 2, 3],
        "pad_token_id": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": 56,
        "kv_lora_rank": 40,
        "qk_nope_head_dim": 24,
        "qk_rope_head_dim": 16,
        "qk_head_dim": 40,
        "v_head_dim": 20,
        "head_dim": 24,  # misleading, as in GLM-5.2, where it says 192 and means nothing
        "rope_parameters": {"rope_theta": 8000000, "rope_type": "default"},
        "rope_interleave": True,
        "index_n_heads": 4,
        "index_head_dim": 32,
        "index_topk": index_topk,
        "indexer_rope_interleave": True,
        "indexer_types": [_SCHEDULE[letter] for letter in schedule],
        "n_routed_experts": 16,
        "num_experts_per_tok": 3,
        "n_shared_experts": 1,
        "moe_intermediate_size": 36,
        "first_k_dense_replace": 2,
        "moe_layer_freq": 1,
        "mlp_layer_types": ["dense"] * 2 + ["sparse"] * (len(schedule) - 2),
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "n_group": 1,
        "topk_group": 1,
        "moe_router_dtype": "float32",
    }
    return config | changes


def _glm_by_frequency(index_topk: int, num_layers: int, **changes: Any) -> Config:
    """The same without `indexer_types`: the schedule follows from frequency 3 and offset 2."""
    config = _glm("F" * num_layers, index_topk, **changes)
    del config["indexer_types"], config["mlp_layer_types"]
    return config | {"index_topk_freq": 3, "index_skip_topk_offset": 2, "index_topk_pattern": None}


def _deepseek(index_topk: int, **changes: Any) -> Config:
    """A `deepseek_v32` config: YaRN, expert groups, every layer full, no `indexer_types`."""
    config = _glm("FFFFF", index_topk)
    for key in ("indexer_types", "indexer_rope_interleave", "moe_router_dtype", "head_dim"):
        del config[key]
    yarn = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 40.0,
        "original_max_position_embeddings": 256,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }
    config |= {
        "architectures": ["DeepseekV32ForCausalLM"],
        "model_type": "deepseek_v32",
        "rms_norm_eps": 1e-06,
        "max_position_embeddings": 10240,
        "eos_token_id": 1,
        "rope_parameters": yarn,
        "num_experts_per_tok": 4,
        "n_group": 4,
        "topk_group": 2,
        "first_k_dense_replace": 1,
        "mlp_layer_types": ["dense"] + ["sparse"] * 4,
    }
    return config | changes


def _deepseek_as_released(index_topk: int) -> Config:
    """The older spelling that the released checkpoint uses: `rope_scaling` and a bare `rope_theta`."""
    config = _deepseek(index_topk)
    yarn = config.pop("rope_parameters")
    theta = yarn.pop("rope_theta")
    yarn["type"] = yarn.pop("rope_type")
    del config["mlp_layer_types"]
    return config | {"rope_theta": theta, "rope_scaling": yarn}


def _llama(**changes: Any) -> Config:
    """A `llama` config: grouped queries, plain rotary, tied embeddings."""
    config: Config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": 320,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 112,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": True,
        "max_position_embeddings": 4096,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    }
    return config | changes


_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}

CASES: dict[str, Config] = {
    "glm_topk8": _glm("FFSFSSSF", 8),
    "glm_topk48": _glm("FFSFSSSF", 48),
    "glm_topk4096": _glm("FSFFSS", 4096, n_shared_experts=2, norm_topk_prob=False),
    "glm_tame": _glm_by_frequency(48, 8, num_nextn_predict_layers=1),
    "deepseek_topk8": _deepseek(8),
    "deepseek_topk48": _deepseek_as_released(48),
    "llama_tied": _llama(),
    "llama_llama3": _llama(tie_word_embeddings=False, rope_parameters=_LLAMA3_ROPE),
    "llama_bias": _llama(attention_bias=True, mlp_bias=True, tie_word_embeddings=False),
}
"""config.json of every case, in the checkpoint's spelling."""

RESIDUAL_GAINS: dict[str, float] = {"glm_tame": 0.24}
"""Factor on what every attention and feed-forward adds to the residual stream; 1 where absent.

With 1 a random model is chaotic: one flipped expert changes every later logit. The tame model is
for comparisons that cannot be exact, such as quantised weights.
"""


def case_weights(case: str, seed: int = WEIGHT_SEED) -> Weights:
    """The weights that the recorded arrays of a case were made with."""
    return random_weights(CASES[case], seed, residual_gain=RESIDUAL_GAINS.get(case, 1.0))


def random_weights(config: Config, seed: int, *, residual_gain: float = 1.0) -> Weights:
    """Make float32 weights in the layout and under the names of a Hugging Face checkpoint.

    Args:
        config: config.json of a `glm_moe_dsa`, `deepseek_v32` or `llama` model.
        seed: below 2**32; each is another model.
        residual_gain: factor on the projections that write to the residual stream.

    Returns:
        name -> array; linear weights are [out, in]. With `num_nextn_predict_layers` the draft
        layer lies under `model.layers.<num_hidden_layers>`. A tied `lm_head.weight` is absent.
    """
    shapes = dict(_parameter_shapes(config))
    return {name: _random_parameter(name, shape, seed, residual_gain) for name, shape in shapes.items()}


def random_tokens(seed: int, length: int, vocab: int) -> np.ndarray:
    """Make token ids, int64 [length]; a longer sequence of one seed begins with the shorter."""
    return (_hashes(seed, "tokens", length) % np.uint64(vocab)).astype(np.int64)


def checksum(weights: Weights) -> int:
    """CRC-32 of all weights in the order of their names: the same on every machine, or something is off."""
    total = 0
    for name in sorted(weights):
        total = zlib.crc32(weights[name].tobytes(), zlib.crc32(name.encode(), total))
    return total


def full_layers(config: Config) -> list[int]:
    """Numbers of the layers that own an indexer, the draft layer not counted.

    Source: transformers, `GlmMoeDsaConfig.__post_init__`.
    """
    num_layers = config["num_hidden_layers"]
    if config["model_type"] == "llama":
        return []
    if (types := config.get("indexer_types")) is not None:
        return [layer for layer in range(num_layers) if types[layer] == "full"]
    frequency = config.get("index_topk_freq", 1)
    offset = config.get("index_skip_topk_offset", 2)
    return [i for i in range(num_layers) if max(i - offset + 1, 0) % frequency == 0]


def expert_layers(config: Config) -> list[int]:
    """Numbers of the layers with routed experts, the draft layer not counted."""
    first = config.get("first_k_dense_replace", config["num_hidden_layers"])
    return list(range(first, config["num_hidden_layers"]))


def _parameter_shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = config["hidden_size"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)
    num_layers = config["num_hidden_layers"]
    for layer in range(num_layers + config.get("num_nextn_predict_layers", 0)):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        if config["model_type"] == "llama":
            yield from _grouped_query_shapes(config, f"{prefix}.self_attn")
            yield from _mlp_shapes(config, f"{prefix}.mlp", config["intermediate_size"])
            continue
        yield from _latent_attention_shapes(config, f"{prefix}.self_attn")
        if layer in full_layers(config) or layer >= num_layers:
            yield from _indexer_shapes(config, f"{prefix}.self_attn.indexer")
        if layer in expert_layers(config) or layer >= num_layers:
            yield from _expert_shapes(config, f"{prefix}.mlp")
        else:
            yield from _mlp_shapes(config, f"{prefix}.mlp", config["intermediate_size"])
        if layer >= num_layers:
            yield from _draft_shapes(hidden, prefix)


def _latent_attention_shapes(config: Config, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    query, latent = config["q_lora_rank"], config["kv_lora_rank"]
    nope, rope = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
    value = config["v_head_dim"]
    yield f"{prefix}.q_a_proj.weight", (query, hidden)
    yield f"{prefix}.q_a_layernorm.weight", (query,)
    yield f"{prefix}.q_b_proj.weight", (heads * (nope + rope), query)
    yield f"{prefix}.kv_a_proj_with_mqa.weight", (latent + rope, hidden)
    yield f"{prefix}.kv_a_layernorm.weight", (latent,)
    yield f"{prefix}.kv_b_proj.weight", (heads * (nope + value), latent)
    yield f"{prefix}.o_proj.weight", (hidden, heads * value)


def _indexer_shapes(config: Config, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, heads, width = config["hidden_size"], config["index_n_heads"], config["index_head_dim"]
    yield f"{prefix}.wq_b.weight", (heads * width, config["q_lora_rank"])
    yield f"{prefix}.wk.weight", (width, hidden)
    yield f"{prefix}.k_norm.weight", (width,)
    yield f"{prefix}.k_norm.bias", (width,)
    yield f"{prefix}.weights_proj.weight", (heads, hidden)


def _grouped_query_shapes(config: Config, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, width = config["hidden_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * width, config["num_key_value_heads"] * width
    shapes = {"q_proj": (query, hidden), "k_proj": (key, hidden), "v_proj": (key, hidden)}
    for name, shape in (shapes | {"o_proj": (hidden, query)}).items():
        yield f"{prefix}.{name}.weight", shape
        if config["attention_bias"]:
            yield f"{prefix}.{name}.bias", shape[:1]


def _mlp_shapes(config: Config, prefix: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = config["hidden_size"]
    shapes = {"gate_proj": (width, hidden), "up_proj": (width, hidden)}
    for name, shape in (shapes | {"down_proj": (hidden, width)}).items():
        yield f"{prefix}.{name}.weight", shape
        if config.get("mlp_bias", False):
            yield f"{prefix}.{name}.bias", shape[:1]


def _expert_shapes(config: Config, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, num_experts = config["moe_intermediate_size"], config["n_routed_experts"]
    yield f"{prefix}.gate.weight", (num_experts, config["hidden_size"])
    yield f"{prefix}.gate.e_score_correction_bias", (num_experts,)
    for expert in range(num_experts):
        yield from _mlp_shapes(config, f"{prefix}.experts.{expert}", width)
    yield from _mlp_shapes(config, f"{prefix}.shared_experts", width * config["n_shared_experts"])


def _draft_shapes(hidden: int, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}.enorm.weight", (hidden,)
    yield f"{prefix}.hnorm.weight", (hidden,)
    yield f"{prefix}.eh_proj.weight", (hidden, 2 * hidden)
    yield f"{prefix}.shared_head.norm.weight", (hidden,)


def _random_parameter(name: str, shape: tuple[int, ...], seed: int, residual_gain: float) -> np.ndarray:
    """One tensor: norms in [0.5, 1.5], biases in [-0.4, 0.4], matrices with rows of unit gain."""
    count = math.prod(shape)
    hashes = _hashes(seed, name, count)
    first = (hashes >> np.uint64(40)).astype(np.float64)  # 24 bits each: exact in float64
    second = (hashes >> np.uint64(16) & np.uint64(0xFFFFFF)).astype(np.float64)
    triangle = (first + second - 2.0**24) / 2.0**24  # in [-1, 1), variance 1/6
    if name.endswith(("e_score_correction_bias", ".bias")):
        values = 0.4 * triangle
    elif len(shape) == 1:
        values = 1.0 + 0.5 * triangle
    elif name == "model.embed_tokens.weight":
        values = math.sqrt(6.0) * triangle
    else:
        values = math.sqrt(6.0 / shape[1]) * _gain(name, residual_gain) * triangle
    return values.astype(np.float32).reshape(shape)


def _gain(name: str, residual_gain: float) -> float:
    if name.endswith((".o_proj.weight", ".down_proj.weight")):
        return residual_gain
    return 1.5 if name.endswith((".q_b_proj.weight", ".q_proj.weight", ".wq_b.weight")) else 1.0


def _hashes(seed: int, name: str, count: int) -> np.ndarray:
    """splitmix64 of a counter that starts at a place given by seed and name; uint64 [count]."""
    start = _mixed(np.array([seed * 2**32 + zlib.crc32(name.encode())], dtype=np.uint64))
    with np.errstate(over="ignore"):
        return _mixed(start + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN_RATIO)


def _mixed(state: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
