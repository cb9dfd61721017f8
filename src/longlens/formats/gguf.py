"""The header of one GGUF file: metadata, and where each tensor lies.

Source: GGUF specification (ggml, docs/gguf.md) and ggml's own reader (gguf.cpp), versions 2 and 3. The two versions
have the same little-endian layout; version 3 only adds big-endian files, which longlens refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from longlens.errors import FormatError
from longlens.formats.element_types import ggml_type
from longlens.formats.gguf_cursor import DAMAGED, UINT32, GgufCursor
from longlens.formats.pointer_file import refuse_pointer_file
from longlens.formats.quoting import quote
from longlens.formats.tensors import ByteSource, TensorInfo

MAGIC = b"GGUF"
_MAGIC_NUMBER = int.from_bytes(MAGIC, "little")
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
_MAX_SIZE = 2**63 - 1
# an entry's least size: lengths, type and the smallest value; lengths, dimensions, type and offset
_LEAST_KEY_BYTES = 8 + 1 + 4 + 1
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says before its data.

    Attributes:
        version: 2 or 3.
        metadata: values by key, in the file's order; arrays are tuples.
        tensors: in the file's order; offsets are absolute.
    """

    version: int
    metadata: Mapping[str, object]
    tensors: tuple[TensorInfo, ...]


def read_gguf(source: ByteSource, shard: int = 0) -> GgufHeader:
    """Read the header of one GGUF file; tensor data is not touched.

    Args:
        source: the file.
        shard: its number in a split set, copied into each tensor's record.

    Raises:
        FormatError: the file is damaged, cut short, big-endian or of a version other than 2 and 3.
        UnsupportedModelError: a tensor's type is not known.
    """
    cursor = GgufCursor(source)
    version = _read_version(cursor)
    num_tensors = cursor.count(_LEAST_TENSOR_BYTES, "the number of tensors")
    num_keys = cursor.count(_LEAST_KEY_BYTES, "the number of metadata keys")
    metadata, alignment = _read_metadata(cursor, num_keys)
    entries = [_read_tensor(cursor, shard) for _ in range(num_tensors)]
    data_start = -(-cursor.position // alignment) * alignment
    tensors = tuple(_place(cursor, entry, data_start, alignment) for entry in entries)
    _refuse_duplicates(cursor, tensors)
    _refuse_overlaps(cursor, tensors)
    return GgufHeader(version, MappingProxyType(metadata), tensors)


def _read_version(cursor: GgufCursor) -> int:
    name = cursor.source.name
    refuse_pointer_file(cursor.source)
    if cursor.remaining_bytes < 4 or cursor.uint32("the magic") != _MAGIC_NUMBER:
        raise FormatError(f"{name} does not start with {MAGIC.decode()}", "name a .gguf file; this is something else")
    version = cursor.uint32("the version")
    if version != 0 and version & 0xFFFF == 0:
        raise FormatError(f"{name} is a big-endian GGUF file", "convert it with gguf-py's gguf_convert_endian.py")
    if version == 1:
        raise FormatError(f"{name} is a GGUF file of version 1", "convert the model again with a current llama.cpp")
    if version not in _VERSIONS:
        raise FormatError(f"{name} has GGUF version {version}; longlens reads 2 and 3", DAMAGED)
    return version


def _read_metadata(cursor: GgufCursor, num_keys: int) -> tuple[dict[str, object], int]:
    metadata: dict[str, object] = {}
    alignment = _DEFAULT_ALIGNMENT
    for number in range(num_keys):
        key = cursor.string(f"the name of metadata key {number}")
        if not key or not key.isprintable():
            raise cursor.fault(f"the name of metadata key {number}, {quote(key)}, is empty or not printable")
        if key in metadata:
            raise cursor.fault(f"metadata key {quote(key)} is there twice")
        type_id = cursor.uint32(f"the value type of {quote(key)}")
        metadata[key] = value = cursor.value(type_id, f"the value of {quote(key)}")
        if key == "general.alignment":
            if type_id != UINT32 or not isinstance(value, int) or value.bit_count() != 1:
                raise cursor.fault("general.alignment is not a 32-bit power of two")
            alignment = value
    return metadata, alignment


def _read_tensor(cursor: GgufCursor, shard: int) -> TensorInfo:
    """Read one entry; its offset is still relative to the data section."""
    name = cursor.string("the name of a tensor")
    what = f"tensor {quote(name)}"
    if not name or not name.isprintable():
        raise cursor.fault(f"the tensor name {quote(name)} is empty or not printable")
    num_dimensions = cursor.uint32(f"the number of dimensions of {what}")
    if num_dimensions > _MAX_DIMENSIONS:
        raise cursor.fault(f"{what} has {num_dimensions} dimensions, more than {_MAX_DIMENSIONS}")
    sizes = [cursor.uint64(f"the sizes of {what}") for _ in range(num_dimensions)]
    if prod(max(size, 1) for size in sizes) > _MAX_SIZE:
        raise cursor.fault(f"{what} has sizes {sizes}, more elements than any file holds")
    element_type = ggml_type(cursor.uint32(f"the type of {what}"), name)
    row = sizes[0] if sizes else 1
    if row % element_type.block_elements:
        raise cursor.fault(
            f"{what} has rows of {row} elements, not whole {element_type.name} blocks of {element_type.block_elements}"
        )
    offset = cursor.uint64(f"the offset of {what}")
    return TensorInfo(name, tuple(reversed(sizes)), element_type, shard, offset, element_type.bytes_for(prod(sizes)))


def _place(cursor: GgufCursor, entry: TensorInfo, data_start: int, alignment: int) -> TensorInfo:
    """Make an entry's offset absolute, and refuse one that leads out of the file."""
    start, length = data_start + entry.offset, cursor.source.num_bytes
    if entry.offset % alignment:
        raise cursor.fault(f"tensor {quote(entry.name)} has offset {entry.offset}, not a multiple of {alignment}")
    if start + entry.num_bytes > length:
        raise cursor.fault(
            f"tensor {quote(entry.name)} ends at byte {start + entry.num_bytes}, the file at byte {length}"
        )
    return TensorInfo(entry.name, entry.shape, entry.element_type, entry.shard, start, entry.num_bytes)


def _refuse_duplicates(cursor: GgufCursor, tensors: tuple[TensorInfo, ...]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise cursor.fault(f"tensor {quote(tensor.name)} is there twice")
        seen.add(tensor.name)


def _refuse_overlaps(cursor: GgufCursor, tensors: Iterable[TensorInfo]) -> None:
    end, last = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.num_bytes)):
        if tensor.num_bytes and tensor.offset < end:
            raise cursor.fault(f"tensors {quote(last)} and {quote(tensor.name)} share bytes")
        end, last = max(end, tensor.offset + tensor.num_bytes), tensor.name
