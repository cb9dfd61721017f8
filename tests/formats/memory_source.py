"""A ByteSource in memory, which counts what is read of it."""

from __future__ import annotations

from longlens.errors import FormatError


class MemorySource:
    def __init__(self, data: bytes, name: str = "model") -> None:
        self.data = data
        self.name = name
        self.reads: list[tuple[int, int]] = []

    @property
    def num_bytes(self) -> int:
        return len(self.data)

    def read(self, offset: int, num_bytes: int) -> memoryview:
        if offset < 0 or num_bytes < 0 or offset + num_bytes > len(self.data):
            raise FormatError(f"{self.name}: {offset}..{offset + num_bytes} of {len(self.data)}", "a test read too far")
        self.reads.append((offset, num_bytes))
        return memoryview(self.data)[offset : offset + num_bytes]

    def close(self) -> None:
        pass
