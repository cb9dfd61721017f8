"""A small safetensors writer for tests: it writes what it is told to, wrong things included."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from typing import Any

from longlens.formats.element_types import SAFETENSORS_TYPES


def entries(tensors: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, Any]:
    """Header entries of tensors (shape, dtype), one after another."""
    found: dict[str, Any] = {}
    at = 0
    for name, (shape, dtype) in tensors.items():
        end = at + SAFETENSORS_TYPES[dtype].bytes_for(prod(shape))
        found[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return found


def raw(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def safetensors(tensors: Mapping[str, tuple[tuple[int, ...], str]], metadata: Mapping[str, str] | None = None) -> bytes:
    """A whole file; the bytes of tensor number n are n + 1 all over."""
    header = entries(tensors)
    data = b"".join(
        bytes([number + 1]) * (entry["data_offsets"][1] - entry["data_offsets"][0])
        for number, entry in enumerate(header.values())
    )
    if metadata is not None:
        header = {"__metadata__": dict(metadata), **header}
    return raw(json.dumps(header).encode(), data)
