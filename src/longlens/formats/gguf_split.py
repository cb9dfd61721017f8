"""Models split over several GGUF files: `NAME-00001-of-00011.gguf`, and the keys that number them.

Source: llama.cpp, tools/gguf-split and llama-model-loader.cpp. The first shard carries the model's metadata; every
shard carries split.no (from 0), split.count and split.tensors.count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from longlens.errors import FormatError, ModelNotFoundError
from longlens.formats.gguf import GgufHeader
from longlens.formats.quoting import quote, quote_all
from longlens.formats.tensors import TensorInfo

_SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)
_MIXED = "the shards are not from one split: download the whole set again into an empty folder"


def shard_paths(path: Path) -> tuple[Path, ...]:
    """List every shard of the set that one file belongs to, in order; a file that is not split is alone.

    Args:
        path: any shard that exists; it need not be the first.

    Raises:
        FormatError: the name counts wrong, e.g. shard 3 of 2.
        ModelNotFoundError: shards are missing; they are named.
    """
    match = _SHARD_NAME.fullmatch(path.name)
    if match is None:
        return (path,)
    number, count = int(match["number"]), int(match["count"])
    if not 1 <= number <= count:
        raise FormatError(f"{path} is named as shard {number} of {count}", "give the file the name it was published as")
    names = [f"{match['stem']}-{shard:05d}-of-{count:05d}.gguf" for shard in range(1, count + 1)]
    present = {entry.name for entry in path.parent.iterdir()} if path.parent.is_dir() else set()
    missing = [name for name in names if name not in present]
    if missing:
        raise ModelNotFoundError(
            f"{len(missing)} of {count} shards are missing in {path.parent}: {quote_all(missing)}",
            "download them into the same folder",
        )
    return tuple(path.parent / name for name in names)


def shard_group(path: Path) -> str:
    """Name the set that a file belongs to: equal for all shards of one model, different for different models."""
    match = _SHARD_NAME.fullmatch(path.name)
    return f"{match['stem']}-*-of-{match['count']}.gguf" if match else path.name


def join_shards(
    headers: Sequence[GgufHeader], names: Sequence[str]
) -> tuple[Mapping[str, object], dict[str, TensorInfo]]:
    """Put the headers of one model's files together.

    Args:
        headers: one a shard, in order; a file that is not split is alone.
        names: what to call each in an error.

    Returns:
        The model's metadata (the first shard's), and all tensors by name.

    Raises:
        FormatError: the shards are not the whole of one set, in order, or hold a tensor twice.
    """
    tensors: dict[str, TensorInfo] = {}
    for shard, (header, name) in enumerate(zip(headers, names, strict=True)):
        number, count = header.metadata.get("split.no", 0), header.metadata.get("split.count", 1)
        # gguf-split writes 0 or 1 into a set of one
        is_alone = len(headers) == 1 and count in (0, 1)
        if not is_alone and (number, count) != (shard, len(headers)):
            claim = f"shard {_shown(number, plus=1)} of {_shown(count)}"
            raise FormatError(
                f"{name} says it is {claim}, opened as {shard + 1} of {len(headers)}",
                "split files need their published names NAME-00001-of-000NN.gguf and must not be mixed",
            )
        for tensor in header.tensors:
            if tensor.name in tensors:
                other = names[tensors[tensor.name].shard]
                raise FormatError(f"tensor {quote(tensor.name)} is in {other} and in {name}", _MIXED)
            tensors[tensor.name] = tensor
    total = headers[0].metadata.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise FormatError(f"{names[0]} announces {_shown(total)} tensors, its shards hold {len(tensors)}", _MIXED)
    return headers[0].metadata, tensors


def _shown(value: object, plus: int = 0) -> str:
    """A number of the file in an error, or what was there in its place."""
    return str(value + plus) if isinstance(value, int) else f"<{type(value).__name__}>"
