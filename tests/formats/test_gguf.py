"""GGUF headers: against gguf-py, and one wrong thing at a time."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from longlens.errors import FormatError, UnsupportedModelError
from longlens.formats.gguf import GgufHeader, read_gguf
from longlens.formats.mapped_file import MappedFile
from tests.formats.gguf_bytes import ARRAY, STRING, TYPE_IDS, UINT32, Entry, Value, gguf, header, place
from tests.formats.memory_source import MemorySource

FIXTURES = Path(__file__).parents[1] / "fixtures"
METADATA = {"general.architecture": Value(STRING, "glm-dsa"), "glm-dsa.block_count": Value(UINT32, 3)}
TENSORS = {"a.weight": ((2, 256), "Q4_K"), "b.weight": ((3,), "F32"), "c.weight": ((2, 3, 32), "Q8_0")}


def read(data: bytes) -> GgufHeader:
    return read_gguf(MemorySource(data))


def refuse(data: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        read(data)
    assert caught.value.mend
    assert "\n" not in caught.value.fault
    return caught.value.fault


def with_entries(*entries: Entry, data_bytes: int = 4096, metadata: dict[str, Value] | None = None) -> bytes:
    return header(METADATA if metadata is None else metadata, entries) + bytes(data_bytes)


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_and_tensors_are_read_in_the_order_of_the_file(version: int) -> None:
    found = read(gguf(METADATA, TENSORS, version=version))
    assert found.version == version
    assert list(found.metadata.items()) == [("general.architecture", "glm-dsa"), ("glm-dsa.block_count", 3)]
    assert [tensor.name for tensor in found.tensors] == list(TENSORS)
    assert [tensor.shape for tensor in found.tensors] == [(2, 256), (3,), (2, 3, 32)]
    assert [tensor.num_bytes for tensor in found.tensors] == [288, 12, 204]


def test_an_offset_leads_to_the_bytes_of_its_tensor() -> None:
    source = MemorySource(gguf(METADATA, TENSORS))
    for number, tensor in enumerate(read_gguf(source, shard=4).tensors):
        assert bytes(source.read(tensor.offset, tensor.num_bytes)) == bytes([number + 1]) * tensor.num_bytes
        assert tensor.shard == 4


@pytest.mark.parametrize("name", ["tiny-glm-Q4_K_M.gguf", "tiny-deepseek-Q8_0.gguf", "tiny-llama-Q8_0.gguf"])
def test_a_file_of_llama_cpp_is_read_as_gguf_py_reads_it(name: str) -> None:
    theirs = GGUFReader(FIXTURES / name)
    with MappedFile(FIXTURES / name) as file:
        ours = read_gguf(file)
        assert len(ours.metadata) == len(theirs.fields) - 3  # theirs counts version and the two counts as keys
        for key, value in ours.metadata.items():
            expected = theirs.fields[key].contents()
            assert value == (tuple(expected) if isinstance(expected, list) else expected), key
        assert len(ours.tensors) == len(theirs.tensors)
        for tensor, other in zip(ours.tensors, theirs.tensors, strict=True):
            assert (tensor.name, tensor.element_type.name) == (other.name, other.tensor_type.name)
            assert tensor.shape == tuple(reversed(other.shape.tolist()))
            assert bytes(file.read(tensor.offset, tensor.num_bytes)) == np.ascontiguousarray(other.data).tobytes()


def test_only_the_header_is_read() -> None:
    source = MemorySource(gguf(METADATA, {"a": ((1024, 1024), "F32")}))
    read_gguf(source)
    assert max(offset + num_bytes for offset, num_bytes in source.reads) <= 1024**2


def test_a_scalar_and_an_empty_tensor_are_read() -> None:
    found = read(gguf(METADATA, {"scalar": ((), "F32"), "empty": ((0, 7), "F32"), "last": ((1,), "F32")}))
    assert [(tensor.shape, tensor.num_bytes) for tensor in found.tensors] == [((), 4), ((0, 7), 0), ((1,), 4)]


def test_a_file_without_tensors_is_read() -> None:
    assert read(header(METADATA, [])).tensors == ()


def test_the_last_tensor_need_not_be_padded() -> None:
    assert len(read(gguf(METADATA, {"a": ((3,), "F32")})[: -(32 - 12)]).tensors) == 1


def test_alignment_moves_the_data() -> None:
    metadata = {**METADATA, "general.alignment": Value(UINT32, 256)}
    entries = place([("a", (3,), "F32"), ("b", (5,), "F32")], alignment=256)
    tensors = read(header(metadata, entries, alignment=256) + bytes(512)).tensors
    assert [tensor.offset % 256 for tensor in tensors] == [0, 0]
    assert tensors[1].offset - tensors[0].offset == 256


@pytest.mark.parametrize("alignment", [Value(UINT32, 0), Value(UINT32, 24), Value(STRING, "32"), Value(10, 32)])
def test_an_alignment_that_is_no_32_bit_power_of_two_is_refused(alignment: Value) -> None:
    assert "general.alignment" in refuse(header({"general.alignment": alignment}, []))


def test_every_cut_is_refused() -> None:
    data = gguf(METADATA, {"a.weight": ((2, 256), "Q4_K")})
    for length in range(len(data) - 31):
        refuse(data[:length])


def test_a_file_that_is_something_else_is_refused() -> None:
    assert "does not start with GGUF" in refuse(b"PK\x03\x04" + bytes(100))
    assert "does not start with GGUF" in refuse(b"")


@pytest.mark.parametrize("version", [2, 3])
def test_a_big_endian_file_is_refused_by_name(version: int) -> None:
    assert "big-endian" in refuse(b"GGUF" + struct.pack(">IQQ", version, 0, 0))


@pytest.mark.parametrize("version", [0, 1, 4, 2**32 - 1])
def test_another_version_is_refused_by_number(version: int) -> None:
    assert f"version {version}" in refuse(b"GGUF" + struct.pack("<IQQ", version, 0, 0))


@pytest.mark.parametrize("counts", [(2**63, 0), (0, 2**63), (2**64 - 1, 2**64 - 1), (5, 0), (0, 8)])
def test_counts_beyond_the_file_are_refused_before_anything_is_read(counts: tuple[int, int]) -> None:
    assert "more than the" in refuse(b"GGUF" + struct.pack("<IQQ", 3, *counts) + bytes(100))


def test_a_key_that_comes_twice_is_refused() -> None:
    data = header({"a.key": Value(UINT32, 1), "b.key": Value(UINT32, 2)}, [])
    assert "'a.key' is there twice" in refuse(data.replace(b"b.key", b"a.key"))


@pytest.mark.parametrize("key", ["", "a\nb", "\x1b[2J"])
def test_a_key_that_cannot_be_printed_is_refused(key: str) -> None:
    assert "empty or not printable" in refuse(header({key: Value(UINT32, 1)}, []))


def test_a_key_that_is_not_utf8_is_refused() -> None:
    assert "metadata key 0" in refuse(header({"abc": Value(UINT32, 1)}, []).replace(b"abc", b"a\xffc"))


def test_a_tensor_that_comes_twice_is_refused() -> None:
    entry = Entry("a", (3,), "F32", 0)
    assert "tensor 'a' is there twice" in refuse(with_entries(entry, replace(entry, offset=32)))


@pytest.mark.parametrize("name", ["", "a\nb"])
def test_a_tensor_without_a_printable_name_is_refused(name: str) -> None:
    assert "empty or not printable" in refuse(with_entries(Entry(name, (3,), "F32", 0)))


def test_tensors_that_share_bytes_are_refused() -> None:
    assert "'a' and 'b' share bytes" in refuse(with_entries(Entry("b", (3,), "F32", 32), Entry("a", (9,), "F32", 0)))


def test_an_offset_between_the_steps_of_the_alignment_is_refused() -> None:
    assert "not a multiple of 32" in refuse(with_entries(Entry("a", (3,), "F32", 8)))


@pytest.mark.parametrize("offset", [4096, 2**63, 2**64 - 32])
def test_a_tensor_outside_of_the_file_is_refused(offset: int) -> None:
    assert "tensor 'a' ends at byte" in refuse(with_entries(Entry("a", (3,), "F32", offset)))


def test_five_dimensions_are_refused_and_four_are_read() -> None:
    assert read(with_entries(Entry("a", (2, 2, 2, 2), "F32", 0))).tensors[0].num_bytes == 64
    assert "5 dimensions" in refuse(with_entries(Entry("a", (1, 1, 1, 1, 1), "F32", 0)))


@pytest.mark.parametrize("shape", [(2**63,), (2**32, 2**32), (0, 2**63), (2**62, 0, 4), (2**16, 2**16, 2**16, 2**16)])
def test_sizes_whose_product_no_file_holds_are_refused(shape: tuple[int, ...]) -> None:
    assert "more elements than any file holds" in refuse(with_entries(Entry("a", shape, "F32", 0)))


def test_rows_of_broken_blocks_are_refused() -> None:
    assert "not whole Q4_K blocks of 256" in refuse(with_entries(Entry("a", (256, 192), "Q4_K", 0)))


def test_an_unknown_tensor_type_is_refused_by_number_and_tensor() -> None:
    data = with_entries(Entry("a.weight", (3,), "F32", 0))
    at = data.index(b"a.weight") + 8 + 4 + 8
    assert data[at : at + 4] == struct.pack("<I", TYPE_IDS["F32"])
    with pytest.raises(UnsupportedModelError, match=r"'a\.weight' has ggml type 77"):
        read(data[:at] + struct.pack("<I", 77) + data[at + 4 :])


def test_a_value_that_is_damaged_is_named_by_its_key() -> None:
    data = header({"tokenizer.ggml.tokens": Value(ARRAY, ["ab", "cd"], STRING)}, [])
    assert "'tokenizer.ggml.tokens'" in refuse(data.replace(b"cd", b"\xff\xff"))
