"""Make a GGUF set that looks like GLM-5.2 in Q4_K_M: 11 shards, 456 GB of holes that take a few MiB on disk.

    python -m tests.formats.make_glm_5_2_shaped FOLDER

Names, shapes, metadata and the tokenizer's size are GLM-5.2's; the types are a mixture such as llama-quantize makes
for Q4_K_M. The weights are holes, so they read as zeros.

Source: the tensors and configuration that zai-org publishes with GLM-5.2; llama.cpp, conversion/glm.py and
llama-quant.cpp. The shapes sum to the published 753,329,940,480 parameters.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.formats.gguf_bytes import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT16, UINT32, Value, header, place

NUM_PARAMETERS = 753_329_940_480
NUM_LAYERS = 78  # layer 78 is the MTP block
NUM_DENSE = 3
NUM_SHARDS = 11
VOCAB, HIDDEN, EXPERTS, EXPERT_WIDTH, DENSE_WIDTH = 154880, 6144, 256, 2048, 12288
NUM_MERGES = 321_649
FULL_LAYERS = (0, 1, 2, *range(6, NUM_LAYERS, 4))

Shaped = tuple[str, tuple[int, ...]]
Tensor = tuple[str, tuple[int, ...], str]


def huggingface_tensors() -> Iterator[Shaped]:
    """Names and shapes as in the BF16 repository, layer by layer."""
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for layer in range(NUM_LAYERS + 1):
        for name, shape in _huggingface_layer(layer):
            yield f"model.layers.{layer}.{name}", shape
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def _huggingface_layer(layer: int) -> Iterator[Shaped]:
    yield "input_layernorm.weight", (HIDDEN,)
    yield "post_attention_layernorm.weight", (HIDDEN,)
    yield "self_attn.q_a_proj.weight", (2048, HIDDEN)
    yield "self_attn.q_a_layernorm.weight", (2048,)
    yield "self_attn.q_b_proj.weight", (16384, 2048)
    yield "self_attn.kv_a_proj_with_mqa.weight", (576, HIDDEN)
    yield "self_attn.kv_a_layernorm.weight", (512,)
    yield "self_attn.kv_b_proj.weight", (28672, 512)
    yield "self_attn.o_proj.weight", (HIDDEN, 16384)
    if layer in FULL_LAYERS or layer == NUM_LAYERS:
        yield "self_attn.indexer.wq_b.weight", (4096, 2048)
        yield "self_attn.indexer.wk.weight", (128, HIDDEN)
        yield "self_attn.indexer.k_norm.weight", (128,)
        yield "self_attn.indexer.k_norm.bias", (128,)
        yield "self_attn.indexer.weights_proj.weight", (32, HIDDEN)
    if layer < NUM_DENSE:
        yield from _swiglu("mlp", DENSE_WIDTH)
    else:
        yield "mlp.gate.weight", (EXPERTS, HIDDEN)
        yield "mlp.gate.e_score_correction_bias", (EXPERTS,)
        yield from _swiglu("mlp.shared_experts", EXPERT_WIDTH)
        for expert in range(EXPERTS):
            yield from _swiglu(f"mlp.experts.{expert}", EXPERT_WIDTH)
    if layer == NUM_LAYERS:
        yield "enorm.weight", (HIDDEN,)
        yield "hnorm.weight", (HIDDEN,)
        yield "eh_proj.weight", (HIDDEN, 2 * HIDDEN)
        yield "shared_head.norm.weight", (HIDDEN,)


def _swiglu(prefix: str, width: int) -> Iterator[Shaped]:
    yield f"{prefix}.gate_proj.weight", (width, HIDDEN)
    yield f"{prefix}.up_proj.weight", (width, HIDDEN)
    yield f"{prefix}.down_proj.weight", (HIDDEN, width)


def gguf_tensors() -> Iterator[Tensor]:
    """Names, shapes (slowest first) and types as in a file of about Q4_K_M."""
    yield "token_embd.weight", (VOCAB, HIDDEN), "Q4_K"
    yield "output_norm.weight", (HIDDEN,), "F32"
    yield "output.weight", (VOCAB, HIDDEN), "Q6_K"
    for layer in range(NUM_LAYERS + 1):
        for name, shape, type_name in _gguf_layer(layer):
            yield f"blk.{layer}.{name}", shape, type_name


def _gguf_layer(layer: int) -> Iterator[Tensor]:
    # llama-quantize gives the first and last eighth of the layers, and every third between, more bits
    eighth = (NUM_LAYERS + 1) // 8
    has_more_bits = layer < eighth or layer >= 7 * (NUM_LAYERS + 1) // 8 or (layer - eighth) % 3 == 2
    down = "Q6_K" if has_more_bits else "Q4_K"
    yield "attn_norm.weight", (HIDDEN,), "F32"
    yield "ffn_norm.weight", (HIDDEN,), "F32"
    yield "attn_q_a.weight", (2048, HIDDEN), "Q4_K"
    yield "attn_q_a_norm.weight", (2048,), "F32"
    yield "attn_q_b.weight", (16384, 2048), "Q4_K"
    yield "attn_kv_a_mqa.weight", (576, HIDDEN), "Q4_K"
    yield "attn_kv_a_norm.weight", (512,), "F32"
    yield "attn_k_b.weight", (64, 512, 192), "Q8_0"  # rows of 192 are no K-quant blocks
    yield "attn_v_b.weight", (64, 256, 512), "Q6_K"
    yield "attn_output.weight", (HIDDEN, 16384), "Q5_K"
    if layer in FULL_LAYERS or layer == NUM_LAYERS:
        yield "indexer.attn_q_b.weight", (4096, 2048), "Q4_K"
        yield "indexer.attn_k.weight", (128, HIDDEN), "Q4_K"
        yield "indexer.k_norm.weight", (128,), "F32"
        yield "indexer.k_norm.bias", (128,), "F32"
        yield "indexer.proj.weight", (32, HIDDEN), "Q4_K"
    if layer < NUM_DENSE:
        yield from _feed_forward("", (), DENSE_WIDTH, down)
    else:
        yield "ffn_gate_inp.weight", (EXPERTS, HIDDEN), "F32"
        yield "exp_probs_b.bias", (EXPERTS,), "F32"
        yield from _feed_forward("_exps", (EXPERTS,), EXPERT_WIDTH, down)
        yield from _feed_forward("_shexp", (), EXPERT_WIDTH, down)
    if layer == NUM_LAYERS:
        yield "nextn.enorm.weight", (HIDDEN,), "F32"
        yield "nextn.hnorm.weight", (HIDDEN,), "F32"
        yield "nextn.eh_proj.weight", (HIDDEN, 2 * HIDDEN), "Q4_K"
        yield "nextn.shared_head_norm.weight", (HIDDEN,), "F32"


def _feed_forward(suffix: str, stack: tuple[int, ...], width: int, down: str) -> Iterator[Tensor]:
    yield f"ffn_gate{suffix}.weight", (*stack, width, HIDDEN), "Q4_K"
    yield f"ffn_up{suffix}.weight", (*stack, width, HIDDEN), "Q4_K"
    yield f"ffn_down{suffix}.weight", (*stack, HIDDEN, width), down


def gguf_metadata() -> dict[str, Value]:
    """The configuration, and a tokenizer of the right size (its words are made up)."""
    counts = {
        "block_count": NUM_LAYERS + 1, "context_length": 1_048_576, "embedding_length": HIDDEN,
        "feed_forward_length": DENSE_WIDTH, "vocab_size": VOCAB, "attention.head_count": 64,
        "attention.head_count_kv": 1, "attention.q_lora_rank": 2048, "attention.kv_lora_rank": 512,
        "attention.key_length": 576, "attention.value_length": 512, "attention.key_length_mla": 256,
        "attention.value_length_mla": 256, "rope.dimension_count": 64, "leading_dense_block_count": NUM_DENSE,
        "expert_count": EXPERTS, "expert_used_count": 8, "expert_shared_count": 1,
        "expert_feed_forward_length": EXPERT_WIDTH, "expert_group_count": 1, "expert_group_used_count": 1,
        "expert_gating_func": 2, "nextn_predict_layers": 1, "attention.indexer.head_count": 32,
        "attention.indexer.key_length": 128, "attention.indexer.top_k": 2048,
    }  # fmt: skip
    floats = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 8e6, "expert_weights_scale": 2.5}
    is_full = [layer in FULL_LAYERS for layer in range(NUM_LAYERS)]
    ids = {"bos": 154822, "eos": 154820, "eot": 154827, "eom": 154829, "unknown": 154820, "padding": 154820}
    return {
        "general.architecture": Value(STRING, "glm-dsa"),
        "general.name": Value(STRING, "GLM-5.2"),
        "general.file_type": Value(UINT32, 15),
        **{f"glm-dsa.{key}": Value(UINT32, value) for key, value in counts.items()},
        **{f"glm-dsa.{key}": Value(FLOAT32, number) for key, number in floats.items()},
        "glm-dsa.expert_weights_norm": Value(BOOL, True),
        "glm-dsa.attention.indexer.types": Value(ARRAY, is_full, BOOL),
        "tokenizer.ggml.model": Value(STRING, "gpt2"),
        "tokenizer.ggml.pre": Value(STRING, "glm4"),
        "tokenizer.ggml.tokens": Value(ARRAY, [f"<{token}>" for token in range(VOCAB)], STRING),
        "tokenizer.ggml.token_type": Value(ARRAY, [1] * VOCAB, INT32),
        "tokenizer.ggml.merges": Value(ARRAY, [f"{merge:x} {merge:o}" for merge in range(NUM_MERGES)], STRING),
        **{f"tokenizer.ggml.{key}_token_id": Value(UINT32, token) for key, token in ids.items()},
    }


def make_glm_5_2_shaped(folder: Path, num_shards: int = NUM_SHARDS) -> Path:
    """Write the set; returns the first shard. The file system must support holes."""
    shards = _share_out(num_shards)
    split = {"split.count": Value(UINT16, num_shards), "split.tensors.count": Value(INT32, sum(map(len, shards)))}
    paths = [folder / f"GLM-5.2-Q4_K_M-{shard + 1:05d}-of-{num_shards:05d}.gguf" for shard in range(num_shards)]
    for shard, (path, tensors) in enumerate(zip(paths, shards, strict=True)):
        entries = place(tensors)
        first = gguf_metadata() if shard == 0 else {}
        head = header({**first, "split.no": Value(UINT16, shard), **split}, entries)
        with path.open("wb") as file:
            file.write(head)
            file.truncate(len(head) + entries[-1].offset + entries[-1].num_bytes)
    return paths[0]


def _share_out(num_shards: int) -> list[list[Tensor]]:
    """The tensors in file order, cut into shards of about the same size."""
    entries = place(gguf_tensors())
    total = entries[-1].offset + entries[-1].num_bytes
    shards: list[list[Tensor]] = [[] for _ in range(num_shards)]
    for entry in entries:
        shards[entry.offset * num_shards // total].append((entry.name, entry.shape, entry.type_name))
    return shards


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(make_glm_5_2_shaped(target))
