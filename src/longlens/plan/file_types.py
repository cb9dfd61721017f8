"""How many bytes a model takes in a file, by kind of weight and by file type.

The rules are those of the programs that write such files, applied tensor by tensor: Hugging Face repositories in BF16
and in block FP8, and llama.cpp's converter and quantiser for GGUF (`plan/gguf_mixture.py`). Bytes are those of the
tensors; a file's header (mostly its vocabulary, some MB) and the padding between tensors are not counted, nor are the
second copies of embedding and head that DeepSeek's files hold in the multi-token prediction layer: nobody reads them.

Source: headers of zai-org/GLM-5.2 and zai-org/GLM-5.2-FP8; llama.cpp of 2026-10-01, src/llama-quant.cpp and
conversion/base.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import Literal, get_args

from longlens.errors import UsageError
from longlens.model.config import MlaConfig, ModelConfig
from longlens.model.needs import parameter_needs
from longlens.plan.gguf_mixture import MIXTURES, gguf_tensors
from longlens.weights.catalog import Catalog
from longlens.weights.parameters import ParameterNeed

WeightClass = Literal[
    "embedding", "attention", "indexer", "dense_ffn", "router", "experts", "shared_experts", "head", "norms", "mtp"
]
WEIGHT_CLASSES: tuple[WeightClass, ...] = get_args(WeightClass)

# Width of FP8's blocks in both directions, and of the F32 scale that belongs to each.
_FP8_BLOCK, _FP8_SCALE_BYTES = 128, 4
# What the FP8 repositories leave in BF16 although it is a matrix.
_BF16_MATRICES = ("embed_tokens.weight", "lm_head.weight", "mlp.gate.weight", "weights_proj.weight", "eh_proj.weight")
# In F32 in every repository: in BF16 it would change which experts are chosen.
_ALWAYS_F32 = "e_score_correction_bias"

_OUTSIDE_LAYERS: Mapping[str, WeightClass] = MappingProxyType(
    {
        "model.embed_tokens.weight": "embedding",
        "model.norm.weight": "norms",
        "model.rope_freqs": "norms",
        "lm_head.weight": "head",
    }
)
_FEED_FORWARD: Mapping[str, WeightClass] = MappingProxyType(
    {
        "gate": "router",
        "experts": "experts",
        "shared_experts": "shared_experts",
        "gate_proj": "dense_ffn",
        "up_proj": "dense_ffn",
        "down_proj": "dense_ffn",
    }
)

NeedBytes = Callable[[ModelConfig], Iterator[tuple[ParameterNeed, int]]]


def weight_class(need: ParameterNeed, config: ModelConfig) -> WeightClass:
    """Say which kind of weight a parameter is; all of the multi-token prediction layer is "mtp".

    A tied embedding is "embedding"; it is the head as well.

    Raises:
        KeyError: the parameter is none that `parameter_needs` lists (a defect of this program).
    """
    if _layer_of(need.name) >= config.num_hidden_layers:
        return "mtp"
    if need.name in _OUTSIDE_LAYERS:
        return _OUTSIDE_LAYERS[need.name]
    if need.name.endswith(("layernorm.weight", "k_norm.weight", "k_norm.bias")):
        return "norms"
    module, part = need.name.split(".")[3:5]
    if module == "self_attn":
        return "indexer" if part == "indexer" else "attention"
    return _FEED_FORWARD[part]


def _layer_of(name: str) -> int:
    """The layer's number; -1 outside the layers."""
    parts = name.split(".")
    return int(parts[2]) if parts[1] == "layers" else -1


def class_parameters(config: ModelConfig) -> dict[str, int]:
    """Count the weights of each class; the sum is `num_parameters(config)`."""
    return _sums(config, ((need, need.num_elements) for need in parameter_needs(config)))


def stored_bytes(config: ModelConfig, file_type: str) -> dict[str, int]:
    """Bytes of each class of weights in a file of this type; classes that the model lacks are 0.

    Args:
        config: of any supported architecture.
        file_type: one of `FILE_TYPES`.

    Raises:
        UsageError: another file type.
    """
    if file_type not in _WRITERS:
        raise UsageError(f"{file_type!r} is not a file type that can be computed", f"choose {', '.join(FILE_TYPES)}")
    return _sums(config, _WRITERS[file_type](config))


def catalog_bytes(catalog: Catalog, config: ModelConfig) -> dict[str, int]:
    """Bytes of each class of weights in a checkpoint, FP8's scales included; the sum is `catalog.num_bytes`."""
    return _sums(config, ((source.need, source.num_bytes) for source in catalog.sources.values()))


def _sums(config: ModelConfig, counts: Iterator[tuple[ParameterNeed, int]]) -> dict[str, int]:
    sums: dict[str, int] = dict.fromkeys(WEIGHT_CLASSES, 0)
    for need, count in counts:
        sums[weight_class(need, config)] += count
    return sums


def _f32(config: ModelConfig) -> Iterator[tuple[ParameterNeed, int]]:
    return ((need, 4 * need.num_elements) for need in parameter_needs(config))


def _bf16(config: ModelConfig) -> Iterator[tuple[ParameterNeed, int]]:
    for need in parameter_needs(config):
        yield need, need.num_elements * (4 if need.name.endswith(_ALWAYS_F32) else 2)


def _fp8(config: ModelConfig) -> Iterator[tuple[ParameterNeed, int]]:
    for need in parameter_needs(config):
        if need.name.endswith(_ALWAYS_F32):
            yield need, 4 * need.num_elements
        elif len(need.shape) == 1 or need.name.endswith(_BF16_MATRICES):
            yield need, 2 * need.num_elements
        else:
            yield need, need.num_elements + _scales_of(need, config)


def _scales_of(need: ParameterNeed, config: ModelConfig) -> int:
    """Bytes of a parameter's block scales."""
    *matrices, rows, columns = need.shape
    if isinstance(config.attention, MlaConfig) and need.name.endswith(("kv_b_proj.key", "kv_b_proj.value")):
        # One matrix in the file, key rows and value rows of a head in turn; its scales are counted with the keys.
        if need.name.endswith("value"):
            return 0
        return _scale_bytes(matrices[0] * (rows + config.attention.v_head_dim), columns)
    return prod(matrices) * _scale_bytes(rows, columns)


def _scale_bytes(rows: int, columns: int) -> int:
    """Blocks at the edges are cut, and have a scale all the same."""
    return -(-rows // _FP8_BLOCK) * -(-columns // _FP8_BLOCK) * _FP8_SCALE_BYTES


def _gguf(file_type: str) -> NeedBytes:
    def writer(config: ModelConfig) -> Iterator[tuple[ParameterNeed, int]]:
        return ((tensor.need, tensor.num_bytes) for tensor in gguf_tensors(config, file_type))

    return writer


_WRITERS: Mapping[str, NeedBytes] = MappingProxyType(
    {"f32": _f32, "bf16": _bf16, "fp8": _fp8} | {name: _gguf(name) for name in MIXTURES}
)
# "bf16" and "fp8" are Hugging Face's layouts, all others but "f32" GGUF's.
FILE_TYPES: tuple[str, ...] = ("f32", "bf16", "f16", "q8_0", "fp8", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
