"""A checkpoint of glm_moe_dsa becomes a GGUF file, which llama.cpp opens as well as longlens does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from longlens.convert.gguf_metadata import ARCHITECTURE, metadata_of_config
from longlens.convert.gguf_tokenizer import metadata_of_tokenizer
from longlens.convert.gguf_writer import MetadataValue, TensorEntry, write_gguf
from longlens.convert.quantise import Q8_0_ELEMENTS, Bytes, WritableType, encode
from longlens.errors import ConfigError, UsageError
from longlens.formats.checkpoint import Checkpoint, open_checkpoint
from longlens.formats.json_object import read_json_object
from longlens.model.config import ModelConfig
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.text.template import DEFAULT, templates_of_checkpoint
from longlens.weights.catalog import Catalog, build_catalog
from longlens.weights.names import Arrangement, tensor_name
from longlens.weights.parameters import ParameterNeed
from longlens.weights.resident import ResidentWeights

_FILE_TYPES: Mapping[WritableType, int] = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
_QUANTISATION_VERSION = 2


@dataclass(frozen=True)
class WrittenFile:
    """What a conversion made.

    Attributes:
        num_bytes: size of the file.
        num_tensors: tensors in it.
        kept_wider: tensors whose rows are not whole blocks, stored as F16 instead of the wanted type.
        left_out: tensors of the source that the model has no use for.
    """

    num_bytes: int
    num_tensors: int
    kept_wider: tuple[str, ...]
    left_out: tuple[str, ...]


def convert_to_gguf(source: Path, target: Path, element_type: WritableType, *, name: str) -> WrittenFile:
    """Convert a Hugging Face folder.

    Matrices are stored as `element_type`; norms, biases, the router and the indexer's head weights stay F32, since
    what is chosen depends on them.

    Args:
        source: the folder, with config.json and tokenizer.json.
        target: the file to write.
        element_type: F32, F16, BF16 or Q8_0.
        name: `general.name`.

    Raises:
        LonglensError: the checkpoint is incomplete, damaged, or of another kind than glm_moe_dsa.
    """
    with open_checkpoint(source) as checkpoint:
        if checkpoint.layout != "safetensors":
            raise UsageError(f"{source} is not a Hugging Face folder", "convert from the original checkpoint")
        config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
        needs = parameter_needs(config)
        catalog = build_catalog(needs, checkpoint.tensors, checkpoint.layout)
        _check_complete(config, catalog)
        metadata = _metadata(checkpoint, config, element_type, name)
        entries = [_entry(need, element_type) for need in needs]
        num_bytes = write_gguf(target, metadata, entries, _data(checkpoint, catalog, needs, entries))
    wider = tuple(
        entry.name
        for need, entry in zip(needs, entries, strict=True)
        if entry.element_type != element_type and not _is_exact(need)
    )
    return WrittenFile(num_bytes, len(entries), wider, (*catalog.unknown, *catalog.ignored))


def _check_complete(config: ModelConfig, catalog: Catalog) -> None:
    if config.num_nextn_predict_layers and not catalog.has_mtp:
        raise ConfigError(
            "config.json promises a multi-token prediction layer that the files do not hold",
            "set num_nextn_predict_layers to 0, or add the missing shard",
        )


def _is_exact(need: ParameterNeed) -> bool:
    return need.precision == "fp32" or len(need.shape) == 1


def _entry(need: ParameterNeed, element_type: WritableType) -> TensorEntry:
    tensor, arrangement = tensor_name(need.name, "gguf")
    shape = need.shape
    if arrangement is Arrangement.TRANSPOSED:
        shape = (*shape[:-2], shape[-1], shape[-2])
    if _is_exact(need):
        return TensorEntry(tensor, shape, "F32")
    is_cut = element_type == "Q8_0" and shape[-1] % Q8_0_ELEMENTS != 0
    return TensorEntry(tensor, shape, "F16" if is_cut else element_type)


def _data(
    checkpoint: Checkpoint, catalog: Catalog, needs: tuple[ParameterNeed, ...], entries: list[TensorEntry]
) -> Iterator[Bytes]:
    """Make the tensors one by one, so that a model larger than memory can be converted."""
    weights = ResidentWeights(checkpoint, catalog, torch.device("cpu"), torch.float32)
    for need, entry in zip(needs, entries, strict=True):
        values = weights.tensor(need.name).float()
        if tensor_name(need.name, "gguf")[1] is Arrangement.TRANSPOSED:
            values = values.transpose(-1, -2)
        yield encode(np.ascontiguousarray(values.numpy()), entry.element_type)


def _metadata(
    checkpoint: Checkpoint, config: ModelConfig, element_type: WritableType, name: str
) -> dict[str, MetadataValue]:
    tokenizer = checkpoint.side_file("tokenizer.json")
    if tokenizer is None:
        raise ConfigError(
            f"{checkpoint.path} has no tokenizer.json", "put the model's tokenizer.json beside its weights"
        )
    metadata: dict[str, MetadataValue] = {
        "general.architecture": ARCHITECTURE,
        "general.type": "model",
        "general.name": name,
        "general.file_type": _FILE_TYPES[element_type],
        "general.quantization_version": _QUANTISATION_VERSION,
    }
    metadata |= _sampling(_json(checkpoint, "generation_config.json"))
    metadata |= metadata_of_config(config)
    stops = checkpoint.metadata.get("eos_token_id")
    stop_ids = stops if isinstance(stops, list) else [stops] if isinstance(stops, int) else []
    metadata |= metadata_of_tokenizer(tokenizer, num_tokens=config.vocab_size, stop_ids=stop_ids)
    template = checkpoint.side_file("chat_template.jinja")
    text = None if template is None else template.decode("utf-8")
    for key, source in templates_of_checkpoint(text, _json(checkpoint, "tokenizer_config.json")).items():
        suffix = "" if key == DEFAULT else f".{key}"
        metadata[f"tokenizer.chat_template{suffix}"] = source
    return metadata


def _sampling(generation: Mapping[str, object]) -> dict[str, MetadataValue]:
    names = {"temperature": "temp", "top_p": "top_p"}
    values = {f"general.sampling.{short}": generation.get(key) for key, short in names.items()}
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float)}


def _json(checkpoint: Checkpoint, name: str) -> Mapping[str, object]:
    data = checkpoint.side_file(name)
    return {} if data is None else read_json_object(data, name)
