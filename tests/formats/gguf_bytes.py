"""A small GGUF writer for tests: it writes what it is told to, wrong things included.

Source: GGUF specification (ggml, docs/gguf.md), version 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from longlens.formats.element_types import GGML_TYPES

TYPE_IDS = {element_type.name: type_id for type_id, element_type in GGML_TYPES.items()}
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
UINT8, UINT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 0, 2, 4, 5, 6, 7, 8, 9


@dataclass(frozen=True)
class Value:
    """A metadata value with its type; `element` is the type of an array's elements."""

    type_id: int
    value: object
    element: int = UINT32


@dataclass(frozen=True)
class Entry:
    """A tensor of a header. `shape` is slowest first; `offset` counts from the data section."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int

    @property
    def num_bytes(self) -> int:
        return GGML_TYPES[TYPE_IDS[self.type_name]].bytes_for(prod(self.shape))


def place(tensors: Iterable[tuple[str, tuple[int, ...], str]], alignment: int = 32) -> list[Entry]:
    """Give tensors (name, shape, type) offsets one after another."""
    entries: list[Entry] = []
    offset = 0
    for name, shape, type_name in tensors:
        entries.append(Entry(name, shape, type_name, offset))
        offset += -(-entries[-1].num_bytes // alignment) * alignment
    return entries


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def payload(value: Value) -> bytes:
    if value.type_id == STRING:
        assert isinstance(value.value, str | bytes)
        return text(value.value)
    if value.type_id == ARRAY:
        assert isinstance(value.value, list | tuple)
        head = struct.pack("<IQ", value.element, len(value.value))
        if value.element in NUMBERS:
            return head + struct.pack(f"<{len(value.value)}{NUMBERS[value.element]}", *value.value)
        nested = (each if isinstance(each, Value) else Value(value.element, each) for each in value.value)
        return head + b"".join(payload(each) for each in nested)
    return struct.pack(f"<{NUMBERS[value.type_id]}", value.value)


def header(metadata: Mapping[str, Value], entries: Iterable[Entry], *, version: int = 3, alignment: int = 32) -> bytes:
    """Everything before the data section, padded to where it begins."""
    entries = list(entries)
    parts = [b"GGUF", struct.pack("<IQQ", version, len(entries), len(metadata))]
    for key, value in metadata.items():
        parts += [text(key), struct.pack("<I", value.type_id), payload(value)]
    for entry in entries:
        sizes = tuple(reversed(entry.shape))
        parts += [text(entry.name), struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)]
        parts.append(struct.pack("<IQ", TYPE_IDS[entry.type_name], entry.offset))
    whole = b"".join(parts)
    return whole + bytes(-len(whole) % alignment)


def gguf(
    metadata: Mapping[str, Value], tensors: Mapping[str, tuple[tuple[int, ...], str]], *, version: int = 3
) -> bytes:
    """A whole file; the bytes of tensor number n are n + 1 all over."""
    entries = place((name, *rest) for name, rest in tensors.items())
    parts = [header(metadata, entries, version=version)]
    for number, entry in enumerate(entries):
        parts.append(bytes([number + 1]) * entry.num_bytes + bytes(-entry.num_bytes % 32))
    return b"".join(parts)
