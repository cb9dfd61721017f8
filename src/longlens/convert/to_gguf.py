"""A checkpoint of glm_moe_dsa becomes a GGUF file, which llama.cpp opens as well as longlens does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from longlens.convert.folder_metadata import metadata_of_folder
from longlens.convert.gguf_writer import TensorEntry, write_gguf
from longlens.convert.quantise import Q8_0_ELEMENTS, Bytes, WritableType, encode
from longlens.errors import ConfigError, UnsupportedModelError, UsageError
from longlens.formats.checkpoint import Checkpoint, open_checkpoint
from longlens.model.config import ModelConfig
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.weights.catalog import Catalog, build_catalog
from longlens.weights.names import Arrangement, tensor_name
from longlens.weights.parameters import ParameterNeed
from longlens.weights.resident import ResidentWeights


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
        if config.architecture != "glm_moe_dsa":
            raise UnsupportedModelError(
                f"{config.architecture} is not converted as it stands", "longlens quantize writes it as GGUF"
            )
        needs = parameter_needs(config)
        catalog = build_catalog(needs, checkpoint.tensors, checkpoint.layout)
        _check_complete(config, catalog)
        metadata = metadata_of_folder(checkpoint, config, name=name, file_type=element_type)
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
