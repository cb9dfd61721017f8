"""How tensors are dealt out to the files of a split GGUF model, and what each file begins with.

Source: llama.cpp, tools/gguf-split: NAME-00001-of-0000N.gguf, the metadata in the first file, every file numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longlens.convert.gguf_writer import TensorEntry, encode_header, padded_bytes
from longlens.convert.kept_pairs import split_pairs
from longlens.errors import UsageError

_MOST_SHARDS = 99_999
_SUFFIX = ".gguf"
# Number of dimensions, four sizes, type and offset, and the length of the name; the counts and the split keys.
_ENTRY_BYTES, _START_BYTES = 4 + 4 * 8 + 4 + 8 + 8, 256


@dataclass(frozen=True, eq=False)
class Shard:
    """One file to be written.

    Attributes:
        path: its name when it is complete.
        header: all that comes before the data.
        entries: its tensors, in the order of their data.
    """

    path: Path
    header: bytes
    entries: tuple[TensorEntry, ...]

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor's data begins in the file, and, last, where the file ends."""
        places = [len(self.header)]
        for entry in self.entries:
            places.append(places[-1] + padded_bytes(entry.num_bytes))
        return tuple(places)

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return self.offsets[-1]


def lay_out(
    target: Path, pairs: Sequence[bytes], entries: Sequence[TensorEntry], max_bytes: int | None
) -> tuple[Shard, ...]:
    """Deal out the tensors, in their order.

    Args:
        target: the file's name; of a split one, what its shards' names are made of.
        pairs: the metadata.
        entries: all tensors.
        max_bytes: most bytes of a file; None for a single one, which also comes of a size that all fits into. A
            tensor that is larger has a file of its own.

    Raises:
        UsageError: more files than their names can number.
    """
    groups = _groups(entries, sum(map(len, pairs)), max_bytes)
    if len(groups) == 1:
        return (Shard(target, encode_header(pairs, entries), tuple(entries)),)
    if len(groups) > _MOST_SHARDS:
        raise UsageError(f"{len(groups)} files are too many", "give a larger --split-max-size, for example 48GiB")
    shards = []
    for number, group in enumerate(groups):
        own = split_pairs(number, len(groups), len(entries))
        header = encode_header([*pairs, *own] if number == 0 else own, group)
        shards.append(Shard(shard_path(target, number, len(groups)), header, tuple(group)))
    return tuple(shards)


def shard_path(target: Path, number: int, count: int) -> Path:
    """The name of one shard, numbered from 0."""
    return target.with_name(f"{target.name.removesuffix(_SUFFIX)}-{number + 1:05d}-of-{count:05d}{_SUFFIX}")


def _groups(entries: Sequence[TensorEntry], first_bytes: int, max_bytes: int | None) -> list[list[TensorEntry]]:
    groups: list[list[TensorEntry]] = [[]]
    taken = first_bytes + _START_BYTES
    for entry in entries:
        needed = padded_bytes(entry.num_bytes) + _ENTRY_BYTES + len(entry.name.encode())
        if max_bytes is not None and groups[-1] and taken + needed > max_bytes:
            groups.append([])
            taken = _START_BYTES
        groups[-1].append(entry)
        taken += needed
    return groups
