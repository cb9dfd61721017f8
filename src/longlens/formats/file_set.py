"""Which files make up the checkpoint that a path leads to, and in which layout they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from longlens.errors import FormatError, ModelNotFoundError, UsageError
from longlens.formats.gguf import MAGIC
from longlens.formats.gguf_split import shard_group, shard_paths
from longlens.formats.mapped_file import MappedFile, missing_file, read_small_file
from longlens.formats.quoting import quote_all
from longlens.formats.safetensors import read_safetensors_index

Layout = Literal["gguf", "safetensors"]
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


@dataclass(frozen=True)
class FileSet:
    """The files of one checkpoint.

    Attributes:
        layout: "gguf" or "safetensors".
        shards: the files that hold tensors, in order; each of them exists.
        weight_map: the name of a tensor's shard by tensor, from an index; empty where there is none.
    """

    layout: Layout
    shards: tuple[Path, ...]
    weight_map: Mapping[str, str] = field(default_factory=dict, repr=False)


def find_files(path: Path) -> FileSet:
    """Find the files that belong to a path.

    Args:
        path: a .gguf file (any shard of a split one), a .safetensors file (any shard), or a folder in Hugging Face's
            layout or with the .gguf files of one model.

    Raises:
        ModelNotFoundError: the path or a shard is missing; the nearest name, or the shards, are named.
        FormatError: the path is no checkpoint, or the index is damaged.
        UsageError: a folder holds several models.
    """
    try:
        return _find(path)
    except OSError as error:  # a folder that may not be listed, a name that is too long
        raise ModelNotFoundError(f"{path} cannot be read: {error.strerror}", "check the path and its rights") from None


def _find(path: Path) -> FileSet:
    if not path.exists():
        raise missing_file(path)
    if path.is_dir():
        return _find_in_folder(path)
    if path.suffix == ".safetensors":
        return _find_safetensors(path)
    if path.suffix == ".gguf" or _starts_like_gguf(path):
        return FileSet("gguf", shard_paths(path))
    raise FormatError(
        f"{path} is neither a GGUF nor a safetensors file", "name a .gguf file, a .safetensors file or a model's folder"
    )


def _starts_like_gguf(path: Path) -> bool:
    with MappedFile(path) as file:
        return file.num_bytes >= len(MAGIC) and file.read(0, len(MAGIC)) == MAGIC


def _find_in_folder(folder: Path) -> FileSet:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.is_dir())
    weights = [name for name in names if name.endswith(".safetensors")]
    if weights or _INDEX in names:
        return _find_safetensors_in(folder, weights)
    groups = {shard_group(Path(name)): name for name in names if name.endswith(".gguf")}
    if len(groups) == 1:
        return FileSet("gguf", shard_paths(folder / next(iter(groups.values()))))
    if groups:
        raise UsageError(
            f"{folder} holds {len(groups)} models: {quote_all(list(groups))}", "name the file of the one that you want"
        )
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        raise ModelNotFoundError(f"{folder} holds only PyTorch pickle files", "convert them to safetensors first")
    raise ModelNotFoundError(
        f"{folder} holds no .safetensors and no .gguf file", "name the folder that holds a model's weights"
    )


def _find_safetensors_in(folder: Path, weights: list[str]) -> FileSet:
    # transformers looks in the same order: the single file first, then the index
    if _SINGLE in weights:
        return FileSet("safetensors", (folder / _SINGLE,))
    weight_map = _read_index(folder)
    if weight_map:
        return _indexed(folder, weight_map)
    if len(weights) == 1:
        return FileSet("safetensors", (folder / weights[0],))
    raise ModelNotFoundError(
        f"{folder} holds {len(weights)} .safetensors files and no {_INDEX}",
        f"download {_INDEX}, or name the one file that you want",
    )


def _find_safetensors(path: Path) -> FileSet:
    weight_map = _read_index(path.parent)
    if path.name in weight_map.values():
        return _indexed(path.parent, weight_map)
    return FileSet("safetensors", (path,))


def _indexed(folder: Path, weight_map: Mapping[str, str]) -> FileSet:
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelNotFoundError(
            f"{len(missing)} of {len(names)} shards are missing in {folder}: {quote_all(missing)}",
            "download them into the same folder",
        )
    return FileSet("safetensors", tuple(folder / name for name in names), weight_map)


def _read_index(folder: Path) -> Mapping[str, str]:
    text = read_small_file(folder / _INDEX)
    return {} if text is None else read_safetensors_index(text, str(folder / _INDEX))
