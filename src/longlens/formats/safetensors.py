"""The header of one safetensors file, and the index of a set of them.

Source: safetensors specification: 8 bytes of length, a JSON object, then the tensors' bytes without holes.
Read here and not through the safetensors package, which gives no positions and needs torch for 8-bit floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from longlens.errors import FormatError
from longlens.formats.element_types import safetensors_type
from longlens.formats.json_object import read_json_object
from longlens.formats.mapped_file import is_plain_name
from longlens.formats.pointer_file import refuse_pointer_file
from longlens.formats.quoting import quote
from longlens.formats.tensors import ByteSource, TensorInfo

MAX_HEADER_BYTES = 100_000_000  # the specification's own limit
_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 8
_MAX_SIZE = 2**63 - 1
_DAMAGED = "the file is damaged or cut short: download it again, and compare its size with the publisher's"
_METADATA = "__metadata__"


def read_safetensors(source: ByteSource, shard: int = 0) -> tuple[TensorInfo, ...]:
    """Read the header of one safetensors file; tensor data is not touched.

    Args:
        source: the file.
        shard: its number in a sharded set, copied into each tensor's record.

    Returns:
        The tensors in the order of their bytes; offsets are absolute.

    Raises:
        FormatError: the file is damaged or cut short, or its tensors overlap or leave holes.
        UnsupportedModelError: a tensor's dtype is not known.
    """
    refuse_pointer_file(source)
    header, data_start = _read_header(source)
    _check_metadata(header.pop(_METADATA, None), source)
    tensors = [_read_tensor(name, entry, source, shard, data_start) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.num_bytes))
    end = data_start
    for tensor in tensors:
        if tensor.offset != end:
            raise _fault(
                source, f"tensor {quote(tensor.name)} starts at byte {tensor.offset}, the one before ends at {end}"
            )
        end += tensor.num_bytes
    if end != source.num_bytes:
        raise _fault(source, f"its tensors end at byte {end}, the file at byte {source.num_bytes}")
    return tuple(tensors)


def read_safetensors_index(text: bytes, name: str) -> Mapping[str, str]:
    """Read which shard holds which tensor.

    `metadata.total_size` is not looked at: published indexes count packed bytes wrong.

    Args:
        text: the whole of a `model.safetensors.index.json`.
        name: what to call it in an error.

    Returns:
        Names of shards by tensor; never empty.

    Raises:
        FormatError: not an index, or a shard's name leads out of the folder.
    """
    weight_map = read_json_object(text, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{name} has no weight_map", "download the index again")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not is_plain_name(shard) or not shard.endswith(".safetensors"):
            raise FormatError(
                f"{name} puts tensor {quote(tensor)} into {quote(str(shard))}, which is no file of its folder",
                "download the index again",
            )
    return weight_map


def _read_header(source: ByteSource) -> tuple[dict[str, object], int]:
    if source.num_bytes < _LENGTH_BYTES:
        raise _fault(source, f"it holds {source.num_bytes} bytes, too few for a safetensors header")
    num_bytes = int.from_bytes(source.read(0, _LENGTH_BYTES), "little")
    if num_bytes > min(MAX_HEADER_BYTES, source.num_bytes - _LENGTH_BYTES):
        raise _fault(source, f"its header would take {num_bytes} bytes, {source.num_bytes - _LENGTH_BYTES} follow")
    header = read_json_object(source.read(_LENGTH_BYTES, num_bytes), f"the header of {source.name}")
    return header, _LENGTH_BYTES + num_bytes


def _check_metadata(metadata: object, source: ByteSource) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _fault(source, f"{_METADATA} is not a table of texts")


def _read_tensor(name: str, entry: object, source: ByteSource, shard: int, data_start: int) -> TensorInfo:
    what = f"tensor {quote(name)}"
    if not name or not name.isprintable():
        raise _fault(source, f"{what} has no printable name")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _fault(source, f"the entry of {what} is not dtype, shape and data_offsets")
    if not isinstance(entry["dtype"], str):
        raise _fault(source, f"the dtype of {what} is not a text")
    shape, offsets = _sizes(entry["shape"]), _sizes(entry["data_offsets"])
    if shape is None or len(shape) > _MAX_DIMENSIONS or prod(max(size, 1) for size in shape) > _MAX_SIZE:
        raise _fault(source, f"the shape of {what} is not a list of sizes")
    if offsets is None or len(offsets) != 2:
        raise _fault(source, f"the data_offsets of {what} are not two positions")
    element_type = safetensors_type(entry["dtype"], name)
    num_bytes = element_type.bytes_for(prod(shape))
    if offsets[1] - offsets[0] != num_bytes:
        raise _fault(
            source, f"{what} takes {num_bytes} bytes by shape and dtype, {offsets[1] - offsets[0]} by data_offsets"
        )
    return TensorInfo(name, shape, element_type, shard, data_start + offsets[0], num_bytes)


def _sizes(value: object) -> tuple[int, ...] | None:
    """The value as sizes, if it is a list of numbers from 0; JSON's true is no number here."""
    if not isinstance(value, list) or not all(type(size) is int and 0 <= size <= _MAX_SIZE for size in value):
        return None
    return tuple(value)


def _fault(source: ByteSource, text: str) -> FormatError:
    return FormatError(f"{source.name}: {text}", _DAMAGED)
