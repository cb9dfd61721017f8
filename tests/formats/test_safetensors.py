"""safetensors headers: against the safetensors package, and one wrong thing at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

from longlens.errors import FormatError, UnsupportedModelError
from longlens.formats import safetensors as reader
from longlens.formats.mapped_file import MappedFile
from longlens.formats.safetensors import read_safetensors, read_safetensors_index
from longlens.formats.tensors import TensorInfo
from tests.formats.memory_source import MemorySource
from tests.formats.safetensors_bytes import entries, raw, safetensors

FIXTURE = Path(__file__).parents[1] / "fixtures" / "tiny-glm" / "model-00001-of-00002.safetensors"
TENSORS = {"a.weight": ((2, 3), "BF16"), "a.weight_scale_inv": ((1, 1), "F32"), "b": ((5,), "F8_E4M3")}


def read(data: bytes) -> tuple[TensorInfo, ...]:
    return read_safetensors(MemorySource(data))


def refuse(data: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        read(data)
    assert caught.value.mend
    assert "\n" not in caught.value.fault
    return caught.value.fault


def changed(name: str, **entry: Any) -> bytes:
    """A file of two tensors (24 bytes of data) with part of one entry exchanged."""
    header = entries({"a": ((2, 2), "F32"), "b": ((4,), "BF16")})
    header[name] = {**header[name], **entry}
    return raw(json.dumps(header).encode(), bytes(24))


def test_tensors_are_read_in_the_order_of_their_bytes() -> None:
    source = MemorySource(safetensors(TENSORS, {"format": "pt"}))
    found = read_safetensors(source, shard=2)
    assert [(tensor.name, tensor.shape, tensor.element_type.name) for tensor in found] == [
        (name, shape, dtype) for name, (shape, dtype) in TENSORS.items()
    ]
    for number, tensor in enumerate(found):
        assert bytes(source.read(tensor.offset, tensor.num_bytes)) == bytes([number + 1]) * tensor.num_bytes
        assert tensor.shard == 2


def test_a_file_is_read_as_the_safetensors_package_reads_it() -> None:
    with MappedFile(FIXTURE) as file, safe_open(FIXTURE, framework="pt") as theirs:
        ours = read_safetensors(file)
        assert sorted(tensor.name for tensor in ours) == sorted(theirs.keys())
        for tensor in ours:
            other = theirs.get_tensor(tensor.name)
            assert tensor.shape == tuple(other.shape)
            assert tensor.element_type.name == theirs.get_slice(tensor.name).get_dtype()
            flat = other.flatten().view(dtype=other.dtype)
            assert bytes(file.read(tensor.offset, tensor.num_bytes)) == bytes(flat.untyped_storage())


def test_only_the_header_is_read() -> None:
    source = MemorySource(safetensors({"a": ((1024, 1024), "F32")}))
    read_safetensors(source)
    assert max(offset + num_bytes for offset, num_bytes in source.reads) == source.num_bytes - 4 * 1024**2


def test_a_header_may_end_in_spaces() -> None:
    header = json.dumps(entries({"a": ((2,), "F32")})).encode() + b"     "
    assert len(read(raw(header, bytes(8)))) == 1


def test_scalars_and_empty_tensors_are_read() -> None:
    found = read(safetensors({"scalar": ((), "F32"), "empty": ((0, 7), "F32"), "last": ((1,), "F32")}))
    assert {tensor.name: tensor.num_bytes for tensor in found} == {"scalar": 4, "empty": 0, "last": 4}


def test_a_file_without_tensors_is_read() -> None:
    assert read(raw(b"{}", b"")) == ()


def test_every_cut_is_refused() -> None:
    data = safetensors(TENSORS)
    for length in range(len(data)):
        refuse(data[:length])


@pytest.mark.parametrize("length", [3, 2**31, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(length: int) -> None:
    assert f"its header would take {length} bytes" in refuse(length.to_bytes(8, "little") + b"{}")


def test_a_header_beyond_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_HEADER_BYTES", 10)
    assert "its header would take" in refuse(safetensors(TENSORS))


def test_a_tensor_that_comes_twice_is_refused() -> None:
    entry = b'"a":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    assert "'a' twice" in refuse(raw(b"{" + entry % (0, 1) + b"," + entry % (1, 2) + b"}", bytes(2)))


@pytest.mark.parametrize("offsets", [[8, 16], [0, 8], [15, 23]])
def test_tensors_that_share_bytes_are_refused(offsets: list[int]) -> None:
    assert "the one before ends at" in refuse(changed("b", data_offsets=offsets))


def test_a_hole_between_tensors_is_refused() -> None:
    header = entries({"a": ((2,), "F32")}) | {"b": {"dtype": "U8", "shape": [1], "data_offsets": [9, 10]}}
    assert "the one before ends at" in refuse(raw(json.dumps(header).encode(), bytes(10)))


def test_bytes_after_the_last_tensor_are_refused() -> None:
    assert "its tensors end at byte" in refuse(safetensors(TENSORS) + b"\0")


@pytest.mark.parametrize(
    "offsets",
    [[16, 25], [24, 16], [-8, 0], [16], [16, 24, 24], [16.0, 24], [16, "24"], [True, 9], None, 16, [2**64, 2**65]],
)
def test_offsets_that_are_no_range_of_the_right_length_are_refused(offsets: object) -> None:
    assert "'b'" in refuse(changed("b", data_offsets=offsets))


def test_numbers_of_thousands_of_digits_are_refused() -> None:
    # the most digits that Python reads; a sum of such numbers could not be written into an error
    most = 10**4300 - 1
    assert "data_offsets of tensor 'b'" in refuse(changed("b", data_offsets=[most - 8, most]))
    assert "the shape of tensor 'b'" in refuse(changed("b", shape=[0, most]))


def test_eight_dimensions_are_read_and_nine_refused() -> None:
    assert len(read(changed("b", shape=[4, *[1] * 7]))) == 2
    assert "the shape of tensor 'b'" in refuse(changed("b", shape=[4, *[1] * 8]))


@pytest.mark.parametrize(
    "shape", [[5], [-4], [4.0], ["4"], [True, 4], None, 4, [2**63], [2**32, 2**32], [0, 2**64], [4, None]]
)
def test_a_shape_that_is_none_or_of_another_size_is_refused(shape: object) -> None:
    assert "'b'" in refuse(changed("b", shape=shape))


@pytest.mark.parametrize("dtype", [None, 1, ["F32"], {}])
def test_a_dtype_that_is_no_text_is_refused(dtype: object) -> None:
    assert "the dtype of tensor 'b'" in refuse(changed("b", dtype=dtype))


def test_an_unknown_dtype_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match="'b' has dtype 'F3'"):
        read(changed("b", dtype="F3"))


@pytest.mark.parametrize("entry", [None, 1, [], {}, {"dtype": "F32", "shape": []}])
def test_an_entry_that_is_none_is_refused(entry: object) -> None:
    assert "entry of tensor 'a'" in refuse(raw(json.dumps({"a": entry}).encode(), b""))


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "\x1b[2J"])
def test_a_name_that_cannot_be_printed_is_refused(name: str) -> None:
    header = json.dumps(entries({name: ((1,), "U8")})).encode()
    assert "printable name" in refuse(raw(header, b"\0"))


@pytest.mark.parametrize("metadata", [1, [], {"format": 1}, "pt"])
def test_metadata_that_is_no_table_of_texts_is_refused(metadata: object) -> None:
    assert "__metadata__" in refuse(raw(json.dumps({"__metadata__": metadata}).encode(), b""))


def test_what_the_safetensors_package_refuses_is_refused_here_too(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for data in (
        safetensors(TENSORS)[:-1],
        safetensors(TENSORS) + b"\0",
        changed("b", data_offsets=[15, 23]),
        raw(b"[]", b""),
    ):
        path.write_bytes(data)
        with pytest.raises(SafetensorError), safe_open(path, framework="np"):
            pass
        refuse(data)


def test_an_index_says_which_shard_holds_which_tensor() -> None:
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": {"a": "x.safetensors", "b": "y.safetensors"}})
    assert read_safetensors_index(text.encode(), "index") == {"a": "x.safetensors", "b": "y.safetensors"}


@pytest.mark.parametrize("weight_map", [None, [], {}, "x", 3])
def test_an_index_without_a_weight_map_is_refused(weight_map: object) -> None:
    with pytest.raises(FormatError, match="index has no weight_map"):
        read_safetensors_index(json.dumps({"weight_map": weight_map}).encode(), "index")


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/x.safetensors", "a/x.safetensors", "x.bin", "", None, 1, ["x"]]
)
def test_a_shard_outside_of_the_folder_is_refused(shard: object) -> None:
    with pytest.raises(FormatError, match="no file of its folder"):
        read_safetensors_index(json.dumps({"weight_map": {"a": shard}}).encode(), "index")
