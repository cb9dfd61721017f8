"""Mapped files: views, edges, and what is said of files that are not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from longlens.errors import FormatError, ModelNotFoundError, UsageError
from longlens.formats import mapped_file
from longlens.formats.mapped_file import MappedFile, is_plain_name, read_small_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.gguf"
    path.write_bytes(bytes(range(10)))
    return path


def test_a_range_is_read_as_it_lies_in_the_file(path: Path) -> None:
    with MappedFile(path) as file:
        assert file.num_bytes == 10
        assert bytes(file.read(3, 4)) == bytes([3, 4, 5, 6])
        assert bytes(file.read(0, 10)) == bytes(range(10))
        assert bytes(file.read(10, 0)) == b""


def test_a_range_is_a_view_of_the_file_and_cannot_be_written(path: Path) -> None:
    with MappedFile(path) as file:
        view = file.read(0, 10)
        assert view.readonly
        with path.open("r+b") as other:
            other.write(b"\xff")
        assert view[0] == 0xFF  # a copy would still hold 0


@pytest.mark.parametrize(("offset", "num_bytes"), [(0, 11), (10, 1), (11, 0), (-1, 1), (3, -1), (2**70, 2**70)])
def test_a_range_outside_of_the_file_is_refused(path: Path, offset: int, num_bytes: int) -> None:
    with MappedFile(path) as file, pytest.raises(FormatError, match="holds 10 bytes"):
        file.read(offset, num_bytes)


def test_an_empty_file_opens_and_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with MappedFile(tmp_path / "empty") as file:
        assert file.num_bytes == 0
        assert bytes(file.read(0, 0)) == b""
        with pytest.raises(FormatError):
            file.read(0, 1)


def test_views_outlive_the_file(path: Path) -> None:
    with MappedFile(path) as file:
        array = np.frombuffer(file.read(2, 3), np.uint8)
    assert array.tolist() == [2, 3, 4]


def test_a_closed_file_is_not_read_and_closes_again(path: Path) -> None:
    file = MappedFile(path)
    file.close()
    file.close()
    with pytest.raises(UsageError, match="closed"):
        file.read(0, 1)


def test_a_missing_file_names_the_nearest_in_its_folder(path: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        MappedFile(path.with_name("wieghts.gguf"))
    assert "wieghts.gguf" in caught.value.fault
    assert str(path) in caught.value.mend


def test_a_missing_folder_names_the_nearest_folder(path: Path) -> None:
    folder = path.parent / "models"
    folder.mkdir()
    with pytest.raises(ModelNotFoundError, match=f"did you mean {folder}"):
        MappedFile(path.parent / "modles" / "deep" / "weights.gguf")


def test_a_name_like_no_other_says_so(path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="has a name like it"):
        MappedFile(path.with_name("quite-another"))


def test_a_file_used_as_a_folder_is_missing(path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no file"):
        MappedFile(path / "inside")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is a folder"):
        MappedFile(tmp_path)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelNotFoundError, match="not a plain file"):
        MappedFile(tmp_path / "pipe")


def test_an_endless_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="cannot be read"):
        MappedFile(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("name", ["tokenizer.json", "model-00001-of-00002.safetensors", "a b", "Größe"])
def test_a_plain_name_stays_in_its_folder(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "C:x", "a\nb", "a\0b"])
def test_any_other_name_does_not(name: str) -> None:
    assert not is_plain_name(name)


def test_a_small_file_is_read_whole_and_a_missing_one_is_none(path: Path) -> None:
    assert read_small_file(path) == bytes(range(10))
    assert read_small_file(path.with_name("none")) is None


def test_a_file_that_is_too_large_to_be_small_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_file, "MAX_SMALL_FILE_BYTES", 9)
    with pytest.raises(FormatError, match="10 B, more than 9 B"):
        read_small_file(path)
