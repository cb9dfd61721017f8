from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from longlens.convert.gguf_writer import MetadataValue, TensorEntry, write_gguf
from longlens.convert.quantise import encode
from longlens.errors import FormatError, UsageError
from longlens.formats.checkpoint import open_checkpoint

METADATA: dict[str, MetadataValue] = {
    "general.architecture": "glm-dsa",
    "number": 2**32 - 1,
    "ratio": 2.5,
    "flag": False,
    "text": "§ \n",
    "flags": (True, False),
    "ids": [3, -1],
    "words": ["a", "ĠÂ§"],
}
ENTRIES = [TensorEntry("one", (3,), "F32"), TensorEntry("two", (2, 3, 32), "Q8_0"), TensorEntry("three", (5, 1), "F16")]


def arrays() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(entry.shape).astype(np.float32) for entry in ENTRIES]


def runs() -> list[np.ndarray]:
    return [encode(values, entry.element_type) for values, entry in zip(arrays(), ENTRIES, strict=True)]


def test_what_is_written_is_read_back_by_both_readers(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    assert write_gguf(path, METADATA, ENTRIES, runs()) == path.stat().st_size
    reader = gguf.GGUFReader(path)
    with open_checkpoint(path) as ours:
        for key, value in METADATA.items():
            plain = list(value) if isinstance(value, tuple) else value
            assert reader.fields[key].contents() == plain
            read = ours.metadata[key]
            assert (list(read) if isinstance(plain, list) else read) == plain
        for entry, run, theirs in zip(ENTRIES, runs(), reader.tensors, strict=True):
            assert ours.tensors[entry.name].shape == entry.shape
            assert ours.tensors[entry.name].element_type.name == entry.element_type
            assert bytes(ours.read(entry.name)) == run.tobytes() == theirs.data.tobytes()
            assert theirs.data_offset % 32 == 0


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"old")

    def broken() -> Iterator[np.ndarray]:
        yield runs()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gguf(path, METADATA, ENTRIES, broken())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("data", [runs()[:2], [*runs(), runs()[0]], [runs()[0][:-1], *runs()[1:]]])
def test_data_that_does_not_match_the_entries_is_refused(tmp_path: Path, data: list[np.ndarray]) -> None:
    with pytest.raises(FormatError):
        write_gguf(tmp_path / "x.gguf", METADATA, ENTRIES, data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [2**32, -1, ["a", 1], [True, 1], [1.5], [], [2**31]])
def test_values_that_gguf_cannot_hold_are_refused(tmp_path: Path, value: MetadataValue) -> None:
    with pytest.raises(UsageError, match="key"):
        write_gguf(tmp_path / "x.gguf", {"key": value}, [], [])


def test_an_unknown_element_type_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="Q4_Z is not an element type"):
        TensorEntry("x", (32,), "Q4_Z")
