"""Write a GGUF file: metadata, tensor entries, data.

The file appears under its name only when it is complete: it is written beside it and moved into place.

Source: GGUF specification (ggml, docs/gguf.md), version 3.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from longlens.convert.quantise import Bytes
from longlens.errors import FormatError, UsageError
from longlens.formats.element_types import GGML_TYPES

_VERSION = 3
_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_TYPE_NUMBERS = {element.name: number for number, element in GGML_TYPES.items()}

MetadataValue = bool | int | float | str | Sequence[bool] | Sequence[int] | Sequence[str]


@dataclass(frozen=True)
class TensorEntry:
    """One tensor to be written.

    Attributes:
        name: its name in the file.
        shape: slowest-varying axis first, as torch and numpy have it.
        element_type: a name of `GGML_TYPES`, such as "Q4_K".
    """

    name: str
    shape: tuple[int, ...]
    element_type: str

    def __post_init__(self) -> None:
        if self.element_type not in _TYPE_NUMBERS:
            raise UsageError(
                f"{self.element_type} is not an element type of GGUF", f"choose one of {', '.join(_TYPE_NUMBERS)}"
            )

    @property
    def num_bytes(self) -> int:
        """Bytes of its data."""
        return GGML_TYPES[_TYPE_NUMBERS[self.element_type]].bytes_for(prod(self.shape))


def write_gguf(
    path: Path, metadata: Mapping[str, MetadataValue], tensors: Sequence[TensorEntry], data: Iterable[Bytes]
) -> int:
    """Write a file.

    Args:
        path: where it goes; a file that is there is replaced when the new one is complete.
        metadata: keys in order. Whole numbers become uint32, arrays of them int32, other numbers float32.
        tensors: the entries, in the order of `data`.
        data: the bytes of each tensor; made one by one, so that only one needs to be in memory.

    Returns:
        The file's size in bytes.

    Raises:
        FormatError: a run of data has not the size that its entry says, or there are too few or too many.
        UsageError: a value that GGUF cannot hold.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    try:
        with os.fdopen(handle, "wb") as file:
            pairs = [encode_pair(key, value) for key, value in metadata.items()]
            file.write(encode_header(pairs, tensors))
            _write_data(file, tensors, data)
            file.flush()
            os.fsync(file.fileno())
            num_bytes = file.tell()
        # mkstemp makes files that only their owner can read; a model is an ordinary file.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):  # it is gone when it has become the file
            os.unlink(temporary)
    return num_bytes


def encode_header(pairs: Sequence[bytes], tensors: Sequence[TensorEntry]) -> bytes:
    """Make all that comes before the data, padding included.

    Args:
        pairs: the metadata, each key with its value.
        tensors: the entries; the data of each begins where that of the one before ends, padded.
    """
    parts = [b"GGUF", struct.pack("<IQQ", _VERSION, len(tensors), len(pairs)), *pairs]
    offset = 0
    for tensor in tensors:
        sizes = tensor.shape[::-1]
        parts += [_string(tensor.name), struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)]
        parts.append(struct.pack("<IQ", _TYPE_NUMBERS[tensor.element_type], offset))
        offset += padded_bytes(tensor.num_bytes)
    header = b"".join(parts)
    return header.ljust(padded_bytes(len(header)), b"\0")


def encode_pair(key: str, value: MetadataValue) -> bytes:
    """Make the bytes of a key with its value, typed as `write_gguf` says.

    Raises:
        UsageError: a value that GGUF cannot hold.
    """
    return b"".join([_string(key), *_typed(key, value)])


def padded_bytes(num_bytes: int) -> int:
    """Round a size up to the alignment, at which the next thing begins."""
    return num_bytes + _padding(num_bytes)


def _write_data(file: BinaryIO, tensors: Sequence[TensorEntry], data: Iterable[Bytes]) -> None:
    runs = iter(data)
    for tensor in tensors:
        run = next(runs, None)
        if run is None or run.nbytes != tensor.num_bytes:
            given = "no data" if run is None else f"{run.nbytes} bytes"
            raise FormatError(
                f"the tensor {tensor.name!r} takes {tensor.num_bytes} bytes, {given} came",
                "report this: it is a defect",
            )
        file.write(run.data)
        file.write(bytes(_padding(run.nbytes)))
    if next(runs, None) is not None:
        raise FormatError("more data came than there are tensors", "report this: it is a defect")


def _padding(num_bytes: int) -> int:
    return -num_bytes % _ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _typed(key: str, value: MetadataValue) -> Iterator[bytes]:
    """A value with its type before it. bool comes before int: it is one."""
    if isinstance(value, str | bool | int | float):
        kind = _kind(value)
        yield struct.pack("<I", kind)
        yield _plain(key, kind, value)
        return
    kinds = {_kind(item) for item in value}
    if len(kinds) != 1 or kinds == {_FLOAT32}:
        raise UsageError(f"{key} is an array of mixed or unknown values", "give texts, whole numbers or booleans")
    kind = kinds.pop()
    kind = _INT32 if kind == _UINT32 else kind
    yield struct.pack("<IIQ", _ARRAY, kind, len(value))
    for item in value:
        yield _plain(key, kind, item)


def _kind(value: bool | int | float | str) -> int:  # noqa: FBT001 - a value of a file, not a switch
    if isinstance(value, str):
        return _STRING
    if isinstance(value, bool):
        return _BOOL
    return _UINT32 if isinstance(value, int) else _FLOAT32


def _plain(key: str, kind: int, value: bool | int | float | str) -> bytes:  # noqa: FBT001 - as above
    if isinstance(value, str):
        return _string(value)
    letter = {_UINT32: "I", _INT32: "i", _FLOAT32: "f", _BOOL: "?"}[kind]
    try:
        return struct.pack(f"<{letter}", value)
    except (struct.error, OverflowError) as error:
        raise UsageError(f"{key} is {value}, which does not fit its 32 bits", "give a smaller number") from error
