"""The configurations of released models, as far as they are public, and small ones in the same spelling.

Source: the config.json of zai-org/GLM-5.2 (every known key), GLM-5 and GLM-5.1, deepseek-ai/DeepSeek-V3.2; the
metadata that llama.cpp's converter writes for GLM-5.2 and DeepSeek-V3.2.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

GLM_5_2_FULL_LAYERS = (0, 1, 2, *range(6, 78, 4))

GLM_5_2: Config = {
    "architectures": ["GlmMoeDsaForCausalLM"],
    "model_type": "glm_moe_dsa",
    "dtype": "bfloat16",
    "transformers_version": "5.12.0",
    "vocab_size": 154880,
    "hidden_size": 6144,
    "num_hidden_layers": 78,
    "num_nextn_predict_layers": 1,
    "intermediate_size": 12288,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "max_position_embeddings": 1048576,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "pretraining_tp": 1,
    "ep_size": 1,
    "use_cache": True,
    "eos_token_id": [154820, 154827, 154829],
    "pad_token_id": 154820,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "q_lora_rank": 2048,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "qk_head_dim": 256,
    "v_head_dim": 256,
    "head_dim": 192,
    "rope_parameters": {"rope_theta": 8000000, "rope_type": "default"},
    "rope_interleave": True,
    "index_n_heads": 32,
    "index_head_dim": 128,
    "index_topk": 2048,
    "indexer_rope_interleave": True,
    "index_topk_freq": 4,
    "index_skip_topk_offset": 3,
    "index_topk_pattern": None,
    "indexer_types": ["full" if layer in GLM_5_2_FULL_LAYERS else "shared" for layer in range(78)],
    "index_share_for_mtp_iteration": True,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 75,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "n_group": 1,
    "topk_group": 1,
    "moe_router_dtype": "float32",
}

_GLM_5_2_ONLY = (
    "index_topk_freq",
    "index_skip_topk_offset",
    "index_topk_pattern",
    "indexer_types",
    "index_share_for_mtp_iteration",
    "moe_router_dtype",
)

GLM_5: Config = {key: value for key, value in GLM_5_2.items() if key not in _GLM_5_2_ONLY} | {
    "head_dim": 64,
    "max_position_embeddings": 202752,
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
}

FP8_QUANTISATION: Config = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
    "modules_to_not_convert": ["model.layers.0.self_attn.indexers_proj"],
}

DEEPSEEK_V32: Config = {
    "architectures": ["DeepseekV32ForCausalLM"],
    "model_type": "deepseek_v32",
    "torch_dtype": "bfloat16",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
    "intermediate_size": 18432,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "max_position_embeddings": 163840,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "rope_theta": 10000,
    "rope_scaling": {
        "type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
    "index_n_heads": 64,
    "index_head_dim": 128,
    "index_topk": 2048,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "n_group": 8,
    "topk_group": 4,
    "quantization_config": FP8_QUANTISATION | {"scale_fmt": "ue8m0"},
}

LLAMA: Config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "intermediate_size": 1536,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
    "attention_bias": False,
    "mlp_bias": False,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rope_theta": 100000,
    "rope_scaling": None,
    "rope_interleaved": False,
}

GLM_5_2_GGUF: Config = {
    "general.architecture": "glm-dsa",
    "general.name": "GLM-5.2",
    "glm-dsa.block_count": 79,
    "glm-dsa.context_length": 1048576,
    "glm-dsa.embedding_length": 6144,
    "glm-dsa.feed_forward_length": 12288,
    "glm-dsa.vocab_size": 154880,
    "glm-dsa.attention.head_count": 64,
    "glm-dsa.attention.head_count_kv": 1,
    "glm-dsa.attention.layer_norm_rms_epsilon": 1e-05,
    "glm-dsa.attention.q_lora_rank": 2048,
    "glm-dsa.attention.kv_lora_rank": 512,
    "glm-dsa.attention.key_length": 576,
    "glm-dsa.attention.value_length": 512,
    "glm-dsa.attention.key_length_mla": 256,
    "glm-dsa.attention.value_length_mla": 256,
    "glm-dsa.rope.dimension_count": 64,
    "glm-dsa.rope.freq_base": 8000000.0,
    "glm-dsa.leading_dense_block_count": 3,
    "glm-dsa.expert_count": 256,
    "glm-dsa.expert_used_count": 8,
    "glm-dsa.expert_shared_count": 1,
    "glm-dsa.expert_feed_forward_length": 2048,
    "glm-dsa.expert_group_count": 1,
    "glm-dsa.expert_group_used_count": 1,
    "glm-dsa.expert_gating_func": 2,
    "glm-dsa.expert_weights_scale": 2.5,
    "glm-dsa.expert_weights_norm": True,
    "glm-dsa.nextn_predict_layers": 1,
    "glm-dsa.attention.indexer.head_count": 32,
    "glm-dsa.attention.indexer.key_length": 128,
    "glm-dsa.attention.indexer.top_k": 2048,
    "glm-dsa.attention.indexer.types": tuple(layer in GLM_5_2_FULL_LAYERS for layer in range(78)),
}

DEEPSEEK_V32_GGUF: Config = {
    key.replace("glm-dsa.", "deepseek32."): value
    for key, value in GLM_5_2_GGUF.items()
    if key != "glm-dsa.attention.indexer.types"
} | {
    "general.architecture": "deepseek32",
    "deepseek32.block_count": 62,
    "deepseek32.context_length": 163840,
    "deepseek32.embedding_length": 7168,
    "deepseek32.feed_forward_length": 18432,
    "deepseek32.vocab_size": 129280,
    "deepseek32.attention.head_count": 128,
    "deepseek32.attention.layer_norm_rms_epsilon": 1e-06,
    "deepseek32.attention.q_lora_rank": 1536,
    "deepseek32.attention.key_length_mla": 192,
    "deepseek32.attention.value_length_mla": 128,
    "deepseek32.rope.freq_base": 10000.0,
    "deepseek32.rope.scaling.type": "yarn",
    "deepseek32.rope.scaling.factor": 40.0,
    "deepseek32.rope.scaling.original_context_length": 4096,
    "deepseek32.rope.scaling.yarn_log_multiplier": 0.1,
    "deepseek32.rope.scaling.yarn_beta_fast": 32.0,
    "deepseek32.rope.scaling.yarn_beta_slow": 1.0,
    "deepseek32.expert_group_count": 8,
    "deepseek32.expert_group_used_count": 4,
    "deepseek32.attention.indexer.head_count": 64,
}

LLAMA_GGUF: Config = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.vocab_size": 49152,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.attention.layer_norm_rms_epsilon": 1e-05,
    "llama.rope.freq_base": 100000.0,
    "llama.rope.dimension_count": 64,
}


def without(config: Config, *keys: str) -> Config:
    """The same configuration, some keys left out."""
    return {key: value for key, value in config.items() if key not in keys}
