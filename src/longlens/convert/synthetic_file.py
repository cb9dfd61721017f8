"""A GGUF file of random weights in a model's geometry: it opens, plans and runs as a real one, and says nothing wise.

Weights are tame: a matrix keeps the size of what it is given, and what is added to the residual is small enough that
logits stay finite over any depth. The same seed gives the same bytes, tensor by tensor, whatever the other tensors are.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np

from longlens.convert.file_type import FILE_TYPE_NUMBERS, QUANTISATION_VERSION
from longlens.convert.gguf_families import metadata_of_any_config
from longlens.convert.gguf_writer import MetadataValue, TensorEntry, write_gguf
from longlens.convert.quantise import Bytes
from longlens.convert.random_blocks import RANDOM_TYPES, random_weights
from longlens.errors import CapacityError, UsageError
from longlens.formats.element_types import GGML_TYPES, ElementType
from longlens.model.config import ModelConfig
from longlens.model.needs import parameter_needs
from longlens.plan.gguf_mixture import MIXTURES, GgufTensor, gguf_tensors
from longlens.text.byte_alphabet import CHARACTER_OF_BYTE
from longlens.units import format_bytes
from longlens.weights.names import Arrangement, tensor_name
from longlens.weights.parameters import ParameterNeed

_TYPES: Mapping[str, ElementType] = MappingProxyType({kind.name: kind for kind in GGML_TYPES.values()})
# What a row that is not whole blocks is stored as, as llama.cpp's quantiser does; what fits nothing becomes F16.
_NARROWER: Mapping[str, str] = MappingProxyType(
    {
        "Q4_K": "Q5_0",
        "Q5_K": "Q5_1",
        "Q6_K": "Q8_0",
        "NVFP4": "MXFP4",
        **dict.fromkeys(("TQ1_0", "TQ2_0"), "Q4_0"),
        **dict.fromkeys(("Q2_K", "Q3_K", "IQ4_XS", "IQ3_S", "IQ3_XXS"), "IQ4_NL"),
        **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_S", "IQ2_XS", "IQ2_XXS"), "IQ4_NL"),
    }
)
_UNUSED, _CONTROL, _NORMAL = 5, 3, 1
_SPACE = CHARACTER_OF_BYTE[ord(" ")]
_END = "<|endoftext|>"
_BIAS_SPREAD = 0.01

SYNTHETIC_TYPES: tuple[str, ...] = tuple(dict.fromkeys((*(name.upper() for name in MIXTURES), *RANDOM_TYPES)))


def synthetic_tensors(config: ModelConfig, file_type: str) -> tuple[GgufTensor, ...]:
    """List the tensors of a synthetic file.

    Args:
        config: the geometry.
        file_type: one of `SYNTHETIC_TYPES`, in any case: a mixture of llama-quantize (Q4_K_M), or an element type,
            which every matrix then has whose rows are whole blocks of it.

    Raises:
        UsageError: another file type.
    """
    name = file_type.upper()
    if name.lower() in MIXTURES:
        return tuple(gguf_tensors(config, name.lower()))
    if name not in RANDOM_TYPES:
        raise UsageError(f"{file_type!r} is not a type of synthetic weights", f"choose {', '.join(SYNTHETIC_TYPES)}")
    return tuple(_tensor(need, name) for need in parameter_needs(config))


def write_synthetic(path: Path, config: ModelConfig, file_type: str, *, name: str, seed: int) -> int:
    """Write a GGUF file of random weights.

    Args:
        path: where it goes; a file that is there is replaced when the new one is complete.
        config: the geometry.
        file_type: as for `synthetic_tensors`.
        name: `general.name`.
        seed: the same seed gives the same file.

    Returns:
        The file's size in bytes.

    Raises:
        UsageError: another file type, a vocabulary too small for its tokenizer, or a folder that cannot be written to.
        UnsupportedModelError: a geometry that GGUF cannot say.
        CapacityError: the disk has no room for it.
    """
    tensors = synthetic_tensors(config, file_type)
    metadata: dict[str, MetadataValue] = {
        **metadata_of_any_config(config),
        "general.type": "model",
        "general.name": name,
        "general.quantization_version": QUANTISATION_VERSION,
        **_tokenizer(config.vocab_size),
    }
    if file_type.upper() in FILE_TYPE_NUMBERS:
        metadata["general.file_type"] = FILE_TYPE_NUMBERS[file_type.upper()]
    entries = [TensorEntry(each.name, each.shape, each.element_type.name) for each in tensors]
    try:
        _check_room(path, sum(tensor.num_bytes for tensor in tensors))
        return write_gguf(path, metadata, entries, _data(config, tensors, seed))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", "name a file in a folder that exists and has room"
        ) from error


def _check_room(path: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if num_bytes > free:
        raise CapacityError(
            f"the file takes {format_bytes(num_bytes)}, {format_bytes(free)} are free in its folder",
            "choose a smaller type or geometry, or a folder on another disk",
        )


def _tensor(need: ParameterNeed, wanted: str) -> GgufTensor:
    name, arrangement = tensor_name(need.name, "gguf")
    shape = need.shape
    if arrangement is Arrangement.TRANSPOSED:
        shape = (*shape[:-2], shape[-1], shape[-2])
    # Selections depend on these, and one-dimensional tensors are never quantised.
    kind = "F32" if need.precision == "fp32" or len(shape) == 1 else _fitting(wanted, shape[-1])
    return GgufTensor(need, name, shape, _TYPES[kind])


def _fitting(wanted: str, columns: int) -> str:
    for kind in (wanted, _NARROWER.get(wanted, wanted)):
        if columns % _TYPES[kind].block_elements == 0:
            return kind
    return "F16"


def _data(config: ModelConfig, tensors: Sequence[GgufTensor], seed: int) -> Iterator[Bytes]:
    """Make the tensors one by one, so that a model larger than memory can be written."""
    for tensor in tensors:
        generator = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
        count = prod(tensor.shape)
        if tensor.name.endswith("norm.weight"):
            yield np.ones(count, np.float32).view(np.uint8)
        else:
            yield random_weights(count, tensor.element_type, _spread(config, tensor.need), generator)


def _spread(config: ModelConfig, need: ParameterNeed) -> float:
    if need.name.endswith("bias"):
        return _BIAS_SPREAD
    if need.name == "model.embed_tokens.weight" and not config.tie_word_embeddings:
        return 1.0
    spread: float = need.shape[-1] ** -0.5
    if need.name.endswith(("o_proj.weight", "down_proj.weight")):
        # Two sums a layer go into the residual; together they add as much as the embedding brought.
        spread *= (2 * config.num_hidden_layers) ** -0.5
    return spread


def _tokenizer(vocab_size: int) -> dict[str, MetadataValue]:
    """The smallest vocabulary that spells any text: 256 bytes, one merge, one end; the rest is unused."""
    tokens = [*CHARACTER_OF_BYTE, 2 * _SPACE, _END]
    if vocab_size < len(tokens):
        raise UsageError(f"a vocabulary of {vocab_size} cannot spell every byte", f"{len(tokens)} tokens are enough")
    end = len(tokens) - 1
    unused = range(len(tokens), vocab_size)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*tokens, *(f"[UNUSED{token_id}]" for token_id in unused)],
        "tokenizer.ggml.token_type": [*[_NORMAL] * end, _CONTROL, *[_UNUSED] * len(unused)],
        "tokenizer.ggml.merges": [f"{_SPACE} {_SPACE}"],
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.add_bos_token": False,
    }
