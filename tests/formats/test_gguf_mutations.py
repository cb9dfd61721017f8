"""Damaged GGUF files: refused with fault and mend, or opened correctly; never anything else."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from longlens.formats.checkpoint import open_checkpoint
from longlens.formats.gguf import read_gguf
from tests.formats.gguf_bytes import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    Value,
    gguf,
    header,
    place,
)
from tests.formats.memory_source import MemorySource
from tests.formats.mutations import HOSTILE, check_reader, check_tensors, mutants

METADATA = {
    "general.architecture": Value(STRING, "glm-dsa"),
    "general.alignment": Value(UINT32, 32),
    "glm-dsa.rope.freq_base": Value(FLOAT32, 8e6),
    "glm-dsa.expert_weights_norm": Value(BOOL, True),
    "glm-dsa.attention.indexer.types": Value(ARRAY, [True, False, True], BOOL),
    "tokenizer.ggml.tokens": Value(ARRAY, ["a", "", "Größe", "<|user|>"], STRING),
    "tokenizer.ggml.token_type": Value(ARRAY, [1, 2, 3], INT32),
    "nested": Value(ARRAY, [Value(ARRAY, [1, 2], UINT8), Value(ARRAY, ["x"], STRING)], ARRAY),
    "big": Value(10, 2**60),
}
TENSORS = {
    "token_embd.weight": ((4, 256), "Q4_K"),
    "blk.0.ffn_up_exps.weight": ((2, 3, 32), "Q8_0"),
    "output_norm.weight": ((5,), "F32"),
    "scalar": ((), "BF16"),
}


def bases() -> list[bytes]:
    entries = place([("a", (3, 32), "F16"), ("b", (32,), "Q4_0")])
    return [
        gguf(METADATA, TENSORS),
        gguf({"general.architecture": Value(STRING, "llama")}, {"a": ((1, 512), "IQ2_XS")}, version=2),
        header({}, entries) + bytes(entries[-1].offset + entries[-1].num_bytes),
        header(METADATA, []),
    ]


def read(data: bytes) -> None:
    found = read_gguf(MemorySource(data))
    check_tensors(found.tensors, [len(data)])
    assert all(key and key.isprintable() for key in found.metadata)
    assert found.version in (2, 3)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_header_is_refused_or_read_correctly(seed: int) -> None:
    outcomes = check_reader(read, mutants(bases(), 3000, seed, header_bytes=700))
    assert outcomes.total() == 3000
    assert outcomes["opened"] > 150
    assert outcomes["FormatError"] > 1500
    assert outcomes["UnsupportedModelError"] > 5


def test_a_hostile_number_anywhere_in_the_header_is_refused_or_read_correctly() -> None:
    whole = bases()[0]
    start = read_gguf(MemorySource(whole)).tensors[0].offset
    fields = ((at, struct.pack("<Q", value)) for at in range(start - 8) for value in HOSTILE)
    outcomes = check_reader(read, (whole[:at] + field + whole[at + 8 :] for at, field in fields))
    assert outcomes.total() > 10_000
    assert outcomes["opened"] > 100


@pytest.mark.parametrize(
    "careless",
    [lambda _: bytearray(2**20), lambda data: struct.unpack("<Q", data), lambda _: sum(range(10**6))],
    ids=["allocates", "raises something else", "takes long"],
)
def test_a_careless_reader_would_be_caught(careless: Callable[[bytes], object], monkeypatch) -> None:
    monkeypatch.setattr("tests.formats.mutations.MOST_SECONDS", 0.01)
    with pytest.raises((AssertionError, struct.error)):
        check_reader(careless, iter([b"GGUF"]))


def test_the_undamaged_files_open() -> None:
    assert check_reader(read, iter(bases())) == {"opened": 4}


def test_damage_in_the_weights_leaves_the_header_as_it_was() -> None:
    data = gguf(METADATA, TENSORS)
    whole = read_gguf(MemorySource(data))
    start = whole.tensors[0].offset
    for mutant in mutants([data[start:]], 200, seed=0, header_bytes=len(data)):
        if len(mutant) >= len(data) - start:
            assert read_gguf(MemorySource(data[:start] + mutant)) == whole


def test_a_damaged_split_set_is_refused_or_read_correctly(tmp_path: Path) -> None:
    split = {"split.count": Value(UINT16, 2), "split.tensors.count": Value(INT32, 2)}
    first = gguf({"split.no": Value(UINT16, 0), **split}, {"a": ((2,), "F32")})
    second = gguf({"split.no": Value(UINT16, 1), **split}, {"b": ((2,), "F32")})
    paths = [tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"]
    paths[0].write_bytes(first)

    def read_set(data: bytes) -> None:
        paths[1].write_bytes(data)
        with open_checkpoint(paths[0]) as checkpoint:
            check_tensors(checkpoint.tensors, [len(first), len(data)])
            for name, tensor in checkpoint.tensors.items():
                assert len(checkpoint.read(name)) == tensor.num_bytes

    outcomes = check_reader(read_set, mutants([second], 600, seed=7, header_bytes=200))
    assert outcomes["opened"] > 30
    assert outcomes["FormatError"] > 300
