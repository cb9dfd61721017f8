"""Damaged safetensors files and folders: refused with fault and mend, or opened correctly; never anything else."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from longlens.formats.checkpoint import open_checkpoint
from longlens.formats.safetensors import read_safetensors
from tests.formats.memory_source import MemorySource
from tests.formats.mutations import check_reader, check_tensors, mutants
from tests.formats.safetensors_bytes import raw, safetensors

TENSORS = {
    "model.embed_tokens.weight": ((4, 6), "BF16"),
    "q_a_proj.weight": ((3, 4), "F8_E4M3"),
    "q_a_proj.weight_scale_inv": ((1, 1), "F32"),
    "scalar": ((), "I64"),
    "empty": ((0, 3), "F16"),
}


def bases() -> list[bytes]:
    return [
        safetensors(TENSORS, {"format": "pt", "größe": "ö"}),
        safetensors({"a": ((2,), "F32")}),
        raw(b'{"__metadata__":{},"a":{"dtype":"U8","shape":[3,1],"data_offsets":[0,3]}}   ', b"abc"),
        raw(b"{}", b""),
    ]


def read(data: bytes) -> None:
    tensors = read_safetensors(MemorySource(data))
    check_tensors(tensors, [len(data)])
    header_bytes = 8 + int.from_bytes(data[:8], "little")
    assert header_bytes + sum(tensor.num_bytes for tensor in tensors) == len(data)


def with_length_mended(damaged: Iterator[bytes], bases: list[bytes]) -> Iterator[bytes]:
    """Let the length of every other header follow its damage, so that the damage is seen behind the length."""
    for number, data in enumerate(damaged):
        base = bases[number % len(bases)]
        num_bytes = int.from_bytes(base[:8], "little") + len(data) - len(base)
        is_mended = number // len(bases) % 2 == 0 and num_bytes >= 0 and len(data) >= 8
        yield struct.pack("<Q", num_bytes) + data[8:] if is_mended else data


def exchanged(header: Any, random: Random) -> Any:
    """A header with one value in it exchanged, wherever it lies."""
    if isinstance(header, dict | list) and header and random.random() < 0.8:
        copy = dict(header) if isinstance(header, dict) else list(header)
        key = random.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
        copy[key] = exchanged(copy[key], random)
        if isinstance(copy, dict) and random.random() < 0.1:
            copy[random.choice(["", "x", "dtype", "\x00", "\ud800", "__metadata__"])] = copy.pop(key)
        return copy
    others = (
        None,
        True,
        -1,
        0,
        1,
        3,
        48,
        2**63,
        2**70,
        1.5,
        1e308,
        "",
        "U8",
        "F32",
        "F4",
        [],
        [0, 3],
        {},
        {"dtype": "U8"},
    )
    return random.choice(others)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_header_is_refused_or_read_correctly(seed: int) -> None:
    damaged = with_length_mended(mutants(bases(), 3000, seed, header_bytes=500), bases())
    outcomes = check_reader(read, damaged)
    assert outcomes.total() == 3000
    assert outcomes["opened"] > 100
    assert outcomes["FormatError"] > 1500
    assert outcomes["UnsupportedModelError"] > 5


@pytest.mark.parametrize("seed", range(2))
def test_a_header_with_wrong_values_is_refused_or_read_correctly(seed: int) -> None:
    random = Random(seed)
    whole = bases()[0]
    start = 8 + int.from_bytes(whole[:8], "little")
    headers = (exchanged(json.loads(whole[8:start]), random) for _ in range(3000))
    outcomes = check_reader(read, (raw(json.dumps(header).encode(), whole[start:]) for header in headers))
    assert outcomes["opened"] > 30
    assert outcomes["FormatError"] > 1500
    assert outcomes["UnsupportedModelError"] > 30


def test_the_undamaged_files_open() -> None:
    assert check_reader(read, iter(bases())) == {"opened": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "x-1.safetensors").write_bytes(safetensors({"a": ((2,), "F32")}))
    (tmp_path / "x-2.safetensors").write_bytes(safetensors({"b": ((2,), "F32"), "c": ((1,), "U8")}, {"a": "b" * 40}))
    weight_map = {"a": "x-1.safetensors", "b": "x-2.safetensors", "c": "x-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text('{"model_type": "glm_moe_dsa", "rope": {"theta": 8000000.0}}')
    return tmp_path


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "config.json", "x-2.safetensors"])
def test_a_damaged_folder_is_refused_or_read_correctly(folder: Path, name: str) -> None:
    original = (folder / name).read_bytes()

    def read_folder(data: bytes) -> None:
        (folder / name).write_bytes(data)
        with open_checkpoint(folder) as checkpoint:
            check_tensors(checkpoint.tensors, [shard.stat().st_size for shard in checkpoint.shards])
            assert all(isinstance(key, str) for key in checkpoint.metadata)
            for tensor_name, tensor in checkpoint.tensors.items():
                assert len(checkpoint.read(tensor_name)) == tensor.num_bytes

    outcomes = check_reader(read_folder, mutants([original], 400, seed=3, header_bytes=len(original)))
    assert outcomes["opened"] > 1
    assert outcomes["FormatError"] > 100
