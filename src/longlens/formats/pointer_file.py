"""Git LFS pointer files: a clone without the weights leaves these in their place."""

from __future__ import annotations

from longlens.errors import FormatError
from longlens.formats.tensors import ByteSource

_START = b"version https://git-lfs"


def refuse_pointer_file(source: ByteSource) -> None:
    """Say so when a file is only the pointer to the weights.

    Raises:
        FormatError: the source is a Git LFS pointer.
    """
    if source.num_bytes >= len(_START) and source.read(0, len(_START)) == _START:
        raise FormatError(f"{source.name} is a Git LFS pointer, not the weights", "fetch them with: git lfs pull")
