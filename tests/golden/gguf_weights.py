"""Read a GGUF file back into the names and shapes of the Hugging Face checkpoint, in float32.

Written against gguf-py alone, so that it can judge our own reader.

Source: llama.cpp, `gguf-py/gguf/tensor_mapping.py`, `conversion/deepseek.py` (kv_b is split and its
key half transposed), `conversion/llama.py` (rows of q and k are reordered for pairwise rotary).
"""

import re
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from tests.golden import tiny_models

GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_output": "self_attn.o_proj",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "indexer.attn_q_b": "self_attn.indexer.wq_b",
    "indexer.attn_k": "self_attn.indexer.wk",
    "indexer.k_norm": "self_attn.indexer.k_norm",
    "indexer.proj": "self_attn.indexer.weights_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
    "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
    "nextn.eh_proj": "eh_proj",
    "nextn.enorm": "enorm",
    "nextn.hnorm": "hnorm",
    "nextn.shared_head_norm": "shared_head.norm",
}


def read(files: list[Path], config: tiny_models.Config) -> tiny_models.Weights:
    """Dequantise every tensor of a file and its further shards, under the checkpoint's names."""
    weights: tiny_models.Weights = {}
    halves: dict[str, np.ndarray] = {}
    for file in files:
        for tensor in GGUFReader(file).tensors:
            array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            array = array.reshape([int(size) for size in tensor.shape[::-1]])
            if re.search(r"attn_[kv]_b\.weight$", tensor.name):
                halves[tensor.name] = array
            elif tensor.name != "rope_freqs.weight":  # follows from the config
                weights |= named(tensor.name, array, config)
    return weights | joined_kv_b(halves)


def named(name: str, array: np.ndarray, config: tiny_models.Config) -> tiny_models.Weights:
    """One tensor under its checkpoint name, stacked experts taken apart."""
    if name in GLOBAL_NAMES:
        return {GLOBAL_NAMES[name]: array}
    _, layer, rest = name.split(".", 2)
    prefix, (stem, kind) = f"model.layers.{layer}", rest.rsplit(".", 1)
    if stem == "exp_probs_b":
        return {f"{prefix}.mlp.gate.e_score_correction_bias": array}
    if match := re.fullmatch(r"ffn_(gate|up|down)_exps", stem):
        experts = f"{prefix}.mlp.experts"
        return {f"{experts}.{i}.{match[1]}_proj.weight": rows for i, rows in enumerate(array)}
    if stem in ("attn_q", "attn_k"):
        array = split_halves(array, config["head_dim"])
    return {f"{prefix}.{LAYER_NAMES[stem]}.{kind}": array}


def split_halves(array: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows ordered in pairs, as llama.cpp rotates them, back to two halves of each head."""
    pairs = array.reshape(-1, head_dim // 2, 2, array.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)


def joined_kv_b(halves: dict[str, np.ndarray]) -> tiny_models.Weights:
    """kv_b_proj [heads * (nope + value), latent] from [heads, latent, nope] and [heads, value, latent]."""
    weights = {}
    for name, keys in halves.items():
        if name.endswith("attn_k_b.weight"):
            values = halves[name.replace("attn_k_b", "attn_v_b")]
            both = np.concatenate([keys.swapaxes(1, 2), values], axis=1)
            layer = name.split(".")[1]
            weights[f"model.layers.{layer}.self_attn.kv_b_proj.weight"] = both.reshape(-1, both.shape[-1])
    return weights
