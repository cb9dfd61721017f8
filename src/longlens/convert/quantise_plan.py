"""What a quantised file will be: every tensor, its type and where it comes from, decided before a weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from longlens.convert.file_type import QUANTISATION_VERSION
from longlens.convert.folder_metadata import metadata_of_folder
from longlens.convert.gguf_writer import TensorEntry, encode_pair
from longlens.convert.kept_pairs import kept_pairs
from longlens.convert.shard_layout import Shard, lay_out
from longlens.convert.tensor_types import QUANTISED_FILE_TYPES, TensorTypes
from longlens.convert.weight_rows import WeightRows, rows_of_parameter, rows_of_tensor, rows_of_values
from longlens.convert.written_config import WrittenConfig, written_config
from longlens.errors import UsageError
from longlens.formats.checkpoint import Checkpoint
from longlens.formats.element_types import GGML_TYPES
from longlens.formats.quoting import quote_all
from longlens.model.config import ModelConfig
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.plan.gguf_mixture import gguf_tensors
from longlens.weights.catalog import Catalog, build_catalog

# FP8 is left out: it is what its models are published in.
_QUANTISED = frozenset(kind.name for kind in GGML_TYPES.values() if kind.block_elements > 1)
_LOSSLESS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class QuantiseRequest:
    """What is asked for.

    Attributes:
        target: the file to write; of a split one, what its shards' names are made of.
        file_type: one of `QUANTISED_FILE_TYPES`.
        max_shard_bytes: most bytes of a file; None for a single one.
        may_requantise: quantised tensors may be quantised again, which loses more than to quantise once.
    """

    target: Path
    file_type: str
    max_shard_bytes: int | None = None
    may_requantise: bool = False


@dataclass(frozen=True, eq=False)
class PlannedTensor:
    """One tensor to be written; `is_copied`: its bytes are the source's."""

    entry: TensorEntry
    rows: WeightRows
    is_copied: bool


@dataclass(frozen=True, eq=False)
class QuantisePlan:
    """All that is to be written.

    Attributes:
        request: what was asked for.
        sources: files of the checkpoint.
        tensors: in the order of the shards and of their entries.
        shards: the files.
        requantised: tensors that are quantised in the source, and in another type in the target.
        kept_wider: tensors whose rows are not whole blocks of the type that the mixture wants.
        unknown: tensors of the source that the model has no use for and that are kept nevertheless.
        left_out: tensors of the source that are not written.
    """

    request: QuantiseRequest
    sources: tuple[Path, ...]
    tensors: tuple[PlannedTensor, ...]
    shards: tuple[Shard, ...]
    requantised: tuple[str, ...]
    kept_wider: tuple[str, ...]
    unknown: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def num_weights(self) -> int:
        """Weights of all tensors."""
        return sum(prod(tensor.entry.shape) for tensor in self.tensors)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(shard.num_bytes for shard in self.shards)


def plan_quantisation(checkpoint: Checkpoint, request: QuantiseRequest) -> QuantisePlan:
    """Decide what is written; no weight is read.

    Args:
        checkpoint: the open source.
        request: what is asked for.

    Raises:
        UsageError: another file type, a target that is the source, or a source that is quantised
            already and may not be quantised again.
        ModelFileError: the source is incomplete, or a model that longlens does not write.
        FormatError: the source is damaged.
    """
    if request.file_type not in QUANTISED_FILE_TYPES:
        raise UsageError(
            f"{request.file_type!r} is not a type that longlens quantizes to",
            f"choose {', '.join(QUANTISED_FILE_TYPES)}",
        )
    names = checkpoint.tensors.keys()
    config = read_config(checkpoint.layout, checkpoint.metadata, names).config
    catalog = build_catalog(parameter_needs(config), checkpoint.tensors, checkpoint.layout)
    is_gguf = checkpoint.layout == "gguf"
    if is_gguf:
        types = TensorTypes(config, request.file_type)
        tensors, pairs = tuple(_of_gguf(checkpoint, types)), _gguf_pairs(checkpoint, types)
    else:
        written = written_config(config, has_mtp=catalog.has_mtp)
        types = TensorTypes(written.config, request.file_type)
        tensors = tuple(_of_folder(checkpoint, written, catalog, types))
        pairs = _folder_pairs(checkpoint, written.config, request.file_type)
    entries = [tensor.entry for tensor in tensors]
    shards = lay_out(request.target, pairs, entries, request.max_shard_bytes)
    _check_target(checkpoint, request.target, shards)
    requantised = tuple(tensor.entry.name for tensor in tensors if _loses_again(tensor))
    if requantised and not request.may_requantise:
        raise UsageError(
            f"{len(requantised)} tensors are quantised already: {quote_all(list(requantised), 3)}",
            "quantize from the F16 or BF16 weights; --allow-requantize does it all the same and loses more",
        )
    rest = (*catalog.unknown, *catalog.ignored)
    return QuantisePlan(
        request=request,
        sources=checkpoint.shards,
        tensors=tensors,
        shards=shards,
        requantised=requantised,
        kept_wider=tuple(entry.name for entry in entries if types.is_wider(entry.name, entry.element_type)),
        unknown=catalog.unknown if is_gguf else (),
        left_out=() if is_gguf else rest,
    )


def _of_gguf(checkpoint: Checkpoint, types: TensorTypes) -> Iterator[PlannedTensor]:
    for info in checkpoint.tensors.values():
        rows = rows_of_tensor(checkpoint, info)
        yield _planned(TensorEntry(info.name, info.shape, types.of(info.name, info.shape)), rows)


def _of_folder(
    checkpoint: Checkpoint, written: WrittenConfig, catalog: Catalog, types: TensorTypes
) -> Iterator[PlannedTensor]:
    for tensor in gguf_tensors(written.config, "f16"):
        name = tensor.need.name
        if name in written.computed:
            rows = rows_of_values(written.computed[name])
        else:
            rows = rows_of_parameter(checkpoint, catalog.sources[name], paired_heads=written.heads_of(name))
        yield _planned(TensorEntry(tensor.name, tensor.shape, types.of(tensor.name, tensor.shape)), rows)


def _planned(entry: TensorEntry, rows: WeightRows) -> PlannedTensor:
    is_same = rows.source_types == {entry.element_type} and rows.raw(0, 0) is not None
    return PlannedTensor(entry, rows, is_copied=is_same)


def _loses_again(tensor: PlannedTensor) -> bool:
    is_quantised = bool(tensor.rows.source_types & _QUANTISED)
    return is_quantised and not tensor.is_copied and tensor.entry.element_type not in _LOSSLESS


def _gguf_pairs(checkpoint: Checkpoint, types: TensorTypes) -> list[bytes]:
    new = {"general.file_type": types.number, "general.quantization_version": QUANTISATION_VERSION}
    kept = kept_pairs(checkpoint.shards[0], new.keys())
    return [*kept, *(encode_pair(key, value) for key, value in new.items())]


def _folder_pairs(checkpoint: Checkpoint, config: ModelConfig, file_type: str) -> list[bytes]:
    folder = checkpoint.shards[0].resolve().parent
    metadata = metadata_of_folder(checkpoint, config, name=folder.name, file_type=file_type)
    return [encode_pair(key, value) for key, value in metadata.items()]


def _check_target(checkpoint: Checkpoint, target: Path, shards: tuple[Shard, ...]) -> None:
    if target.suffix != ".gguf":
        raise UsageError(f"{target} does not end in .gguf", f"name the file to write, for example {target}.gguf")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", "make it, or name a file in one that exists")
    sources = {path.resolve() for path in checkpoint.shards}
    for path in {target, *(shard.path for shard in shards)}:
        if path.resolve() in sources:
            raise UsageError(f"{path} is the source itself", "name another file; the source is only read")
