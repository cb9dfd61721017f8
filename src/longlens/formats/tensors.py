"""What every checkpoint format has in common: named tensors that lie somewhere in a file."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

from longlens.formats.element_types import ElementType


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies and how to read it.

    Attributes:
        name: the name in the file.
        shape: sizes, slowest-varying first (the order of torch and numpy; GGUF's own order reversed).
        element_type: how the bytes are to be understood.
        shard: number of the file that holds it, 0 for the first.
        offset: absolute position of its first byte in that file.
        num_bytes: bytes it takes there.
    """

    name: str
    shape: tuple[int, ...]
    element_type: ElementType
    shard: int
    offset: int
    num_bytes: int

    @property
    def num_elements(self) -> int:
        """Product of the sizes; 1 for a scalar."""
        return prod(self.shape)


class ByteSource(Protocol):
    """A run of bytes with a length, readable by ranges: a mapped file, or a remote one."""

    @property
    def name(self) -> str:
        """What to call it in an error message."""
        ...

    @property
    def num_bytes(self) -> int:
        """Its length."""
        ...

    def read(self, offset: int, num_bytes: int) -> memoryview:
        """Return exactly this range.

        Raises:
            FormatError: the range lies outside of the source.
        """
        ...

    def close(self) -> None:
        """Give back what the source holds open; a second call does nothing."""
        ...
