"""Git LFS pointers in the place of weights."""

from __future__ import annotations

import pytest

from longlens.errors import FormatError
from longlens.formats.gguf import read_gguf
from longlens.formats.pointer_file import refuse_pointer_file
from longlens.formats.safetensors import read_safetensors
from tests.formats.memory_source import MemorySource

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("read", [refuse_pointer_file, read_gguf, read_safetensors])
def test_a_pointer_says_how_to_get_the_weights(read) -> None:
    with pytest.raises(FormatError) as caught:
        read(MemorySource(POINTER))
    assert "git lfs pull" in caught.value.mend


@pytest.mark.parametrize("data", [b"", b"version", b"GGUF" + bytes(100)])
def test_anything_else_passes(data: bytes) -> None:
    assert refuse_pointer_file(MemorySource(data)) is None
