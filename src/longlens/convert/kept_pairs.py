"""Metadata that goes from one GGUF file into another as it lies there, value types included.

Source: GGUF specification, metadata; llama.cpp, llama-model-loader.cpp (value types of the split keys).
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path

from longlens.formats.gguf_cursor import GgufCursor
from longlens.formats.mapped_file import MappedFile

_UINT16, _INT32 = 2, 5
_LEAST_PAIR_BYTES = 8 + 1 + 4 + 1
SPLIT_PREFIX = "split."


def kept_pairs(path: Path, dropped: Collection[str]) -> list[bytes]:
    """Read a file's metadata as bytes, each key with its value, in the file's order.

    What numbers the shards of a split file and the alignment of its data are that file's own and are left out.

    Args:
        path: a GGUF file; of a split one, the first shard.
        dropped: keys that the new file says anew.

    Raises:
        FormatError: the file is damaged.
    """
    own = {"general.alignment", *dropped}
    pairs = []
    with MappedFile(path) as source:
        cursor = GgufCursor(source)
        cursor.uint64("the magic and the version")
        cursor.uint64("the number of tensors")
        for number in range(cursor.count(_LEAST_PAIR_BYTES, "the number of metadata keys")):
            start = cursor.position
            key = cursor.string(f"the name of metadata key {number}")
            cursor.value(cursor.uint32(f"the value type of {key!r}"), f"the value of {key!r}")
            if key not in own and not key.startswith(SPLIT_PREFIX):
                pairs.append(bytes(source.read(start, cursor.position - start)))
    return pairs


def split_pairs(number: int, count: int, num_tensors: int) -> list[bytes]:
    """Make the keys of one shard.

    Args:
        number: of the shard, from 0.
        count: shards of the set.
        num_tensors: of the whole set.
    """
    return [
        _key("split.no") + struct.pack("<IH", _UINT16, number),
        _key("split.count") + struct.pack("<IH", _UINT16, count),
        _key("split.tensors.count") + struct.pack("<Ii", _INT32, num_tensors),
    ]


def _key(name: str) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode()
