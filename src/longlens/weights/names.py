"""One table of names for both file layouts.

Every row maps a parameter of the model to its tensor in a Hugging Face checkpoint and in a GGUF file, with the change
of layout that lies between, if any. `{layer}` and `{expert}` stand for numbers.

Source: transformers' checkpoints of zai-org/GLM-5.2 and DeepSeek-V3.2; gguf-py, tensor_mapping.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Arrangement(Enum):
    """How a file stores a parameter, compared with how the model wants it."""

    SAME = "as the model wants it"
    PER_EXPERT = "one tensor an expert, to be stacked"
    KEY_ROWS = "the no-rope key rows of kv_b_proj, per head"
    VALUE_ROWS = "the value rows of kv_b_proj, per head"
    TRANSPOSED = "the last two axes swapped"


@dataclass(frozen=True)
class TensorName:
    """A name pattern in one file layout and the arrangement of the tensor under it."""

    pattern: str
    arrangement: Arrangement = Arrangement.SAME


@dataclass(frozen=True)
class NameRow:
    """One parameter in the three spellings."""

    parameter: str
    huggingface: TensorName
    gguf: TensorName


def _row(parameter: str, gguf: str, huggingface: str | None = None) -> NameRow:
    return NameRow(parameter, TensorName(huggingface or parameter), TensorName(gguf))


def _layer_row(parameter: str, gguf: str) -> NameRow:
    return _row(f"model.layers.{{layer}}.{parameter}", f"blk.{{layer}}.{gguf}")


def _expert_row(projection: str, gguf: str) -> NameRow:
    return NameRow(
        f"model.layers.{{layer}}.mlp.experts.{projection}.weight",
        TensorName(f"model.layers.{{layer}}.mlp.experts.{{expert}}.{projection}.weight", Arrangement.PER_EXPERT),
        TensorName(f"blk.{{layer}}.{gguf}.weight"),
    )


NAME_ROWS: tuple[NameRow, ...] = (
    _row("model.embed_tokens.weight", "token_embd.weight"),
    _row("model.norm.weight", "output_norm.weight"),
    _row("lm_head.weight", "output.weight"),
    # GGUF only: the converter writes llama-3's frequency factors as a tensor.
    _row("model.rope_freqs", "rope_freqs.weight"),
    _layer_row("input_layernorm.weight", "attn_norm.weight"),
    _layer_row("post_attention_layernorm.weight", "ffn_norm.weight"),
    # multi-head latent attention
    _layer_row("self_attn.q_a_proj.weight", "attn_q_a.weight"),
    _layer_row("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight"),
    _layer_row("self_attn.q_b_proj.weight", "attn_q_b.weight"),
    _layer_row("self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight"),
    _layer_row("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight"),
    NameRow(
        "model.layers.{layer}.self_attn.kv_b_proj.key",
        TensorName("model.layers.{layer}.self_attn.kv_b_proj.weight", Arrangement.KEY_ROWS),
        TensorName("blk.{layer}.attn_k_b.weight", Arrangement.TRANSPOSED),
    ),
    NameRow(
        "model.layers.{layer}.self_attn.kv_b_proj.value",
        TensorName("model.layers.{layer}.self_attn.kv_b_proj.weight", Arrangement.VALUE_ROWS),
        TensorName("blk.{layer}.attn_v_b.weight"),
    ),
    _layer_row("self_attn.o_proj.weight", "attn_output.weight"),
    # lightning indexer
    _layer_row("self_attn.indexer.wq_b.weight", "indexer.attn_q_b.weight"),
    _layer_row("self_attn.indexer.wk.weight", "indexer.attn_k.weight"),
    _layer_row("self_attn.indexer.k_norm.weight", "indexer.k_norm.weight"),
    _layer_row("self_attn.indexer.k_norm.bias", "indexer.k_norm.bias"),
    _layer_row("self_attn.indexer.weights_proj.weight", "indexer.proj.weight"),
    # grouped-query attention
    _layer_row("self_attn.q_proj.weight", "attn_q.weight"),
    _layer_row("self_attn.k_proj.weight", "attn_k.weight"),
    _layer_row("self_attn.v_proj.weight", "attn_v.weight"),
    _layer_row("self_attn.q_proj.bias", "attn_q.bias"),
    _layer_row("self_attn.k_proj.bias", "attn_k.bias"),
    _layer_row("self_attn.v_proj.bias", "attn_v.bias"),
    _layer_row("self_attn.o_proj.bias", "attn_output.bias"),
    # feed-forward, dense and shared expert
    _layer_row("mlp.gate_proj.weight", "ffn_gate.weight"),
    _layer_row("mlp.up_proj.weight", "ffn_up.weight"),
    _layer_row("mlp.down_proj.weight", "ffn_down.weight"),
    _layer_row("mlp.gate_proj.bias", "ffn_gate.bias"),
    _layer_row("mlp.up_proj.bias", "ffn_up.bias"),
    _layer_row("mlp.down_proj.bias", "ffn_down.bias"),
    _layer_row("mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight"),
    _layer_row("mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight"),
    _layer_row("mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight"),
    # mixture of experts
    _layer_row("mlp.gate.weight", "ffn_gate_inp.weight"),
    _layer_row("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    _expert_row("gate_proj", "ffn_gate_exps"),
    _expert_row("up_proj", "ffn_up_exps"),
    _expert_row("down_proj", "ffn_down_exps"),
    # multi-token prediction
    _layer_row("eh_proj.weight", "nextn.eh_proj.weight"),
    _layer_row("enorm.weight", "nextn.enorm.weight"),
    _layer_row("hnorm.weight", "nextn.hnorm.weight"),
    _layer_row("shared_head.norm.weight", "nextn.shared_head_norm.weight"),
)

_BY_PARAMETER: Mapping[str, NameRow] = {row.parameter: row for row in NAME_ROWS}
_LAYER = re.compile(r"(?<=\.)(\d+)(?=\.)")

# Tensors that some files carry and that change nothing: copies of the embedding and head in the MTP layer, rotary
# tables, and the metadata of quantisers.
WITHOUT_EFFECT = re.compile(
    r"blk\.\d+\.nextn\.(embed_tokens|shared_head_head)\.weight"
    r"|model\.layers\.\d+\.(embed_tokens|shared_head\.head)\.weight"
    r"|.*rotary_emb\.inv_freq"
    r"|.*\.(input_scale|k_scale|v_scale)"
)


def tensor_name(parameter: str, layout: str) -> tuple[str, Arrangement]:
    """The name of a parameter in a file, `{expert}` left open where experts lie one by one.

    Args:
        parameter: the project's name, e.g. "model.layers.3.self_attn.q_a_proj.weight".
        layout: "gguf" or "safetensors".

    Raises:
        KeyError: the table has no such parameter (a defect of this program, not of a file).
    """
    match = _LAYER.search(parameter)
    layer = match[1] if match else None
    row = _BY_PARAMETER[_LAYER.sub("{layer}", parameter, count=1) if match else parameter]
    name = row.gguf if layout == "gguf" else row.huggingface
    pattern = name.pattern.replace("{layer}", layer) if layer is not None else name.pattern
    return pattern, name.arrangement


_INDEXER = re.compile(
    r"blk\.\d+\.indexer\.(attn_q_b\.weight|attn_k\.weight|k_norm\.weight|k_norm\.bias|proj\.weight)"
    r"|model\.layers\.\d+\.self_attn\.indexer\."
    r"(wq_b\.weight|wk\.weight|k_norm\.weight|k_norm\.bias|weights_proj\.weight)(_scale|_scale_inv)?"
)


def is_indexer_tensor(name: str) -> bool:
    """Whether a tensor belongs to an indexer (some files carry them on shared layers, where they have no use)."""
    return _INDEXER.fullmatch(name) is not None
