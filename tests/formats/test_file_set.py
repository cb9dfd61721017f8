"""From a path to the files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longlens.errors import FormatError, ModelNotFoundError, UsageError
from longlens.formats.file_set import find_files

INDEX = "model.safetensors.index.json"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"GGUF" if name.endswith(".gguf") else b"")


def write_index(folder: Path, *shards: str) -> None:
    weight_map = {f"tensor{number}": shard for number, shard in enumerate(shards)}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def found(path: Path) -> tuple[str, list[str]]:
    files = find_files(path)
    return files.layout, [shard.name for shard in files.shards]


def test_a_gguf_file_is_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.gguf", "b.gguf")
    assert found(tmp_path / "a.gguf") == ("gguf", ["a.gguf"])


def test_a_file_that_starts_like_a_gguf_is_one_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "sha256-4d7a").write_bytes(b"GGUF and more")
    assert found(tmp_path / "sha256-4d7a") == ("gguf", ["sha256-4d7a"])


@pytest.mark.parametrize("name", ["config.json", "model.bin", "empty"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(FormatError, match="neither a GGUF nor a safetensors file"):
        find_files(tmp_path / name)


@pytest.mark.parametrize("name", ["modell.gguf", "modell.safetensors", "modell", "m-00002-of-00002.gguf"])
def test_a_missing_path_names_the_nearest(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "model.gguf", "model.safetensors", "model", "m-00001-of-00002.gguf")
    nearest = {"m-00002-of-00002.gguf": "m-00001-of-00002.gguf"}.get(name, name.replace("modell", "model"))
    with pytest.raises(ModelNotFoundError, match=rf"did you mean {tmp_path / nearest}\?"):
        find_files(tmp_path / name)


def test_a_folder_with_the_shards_of_one_gguf_is_that_set(tmp_path: Path) -> None:
    names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    touch(tmp_path, "README.md", *names)
    assert found(tmp_path) == ("gguf", names)


def test_a_folder_with_several_gguf_models_lists_them(tmp_path: Path) -> None:
    touch(tmp_path, "m-Q4-00001-of-00002.gguf", "m-Q4-00002-of-00002.gguf", "m-Q8.gguf")
    with pytest.raises(UsageError) as caught:
        find_files(tmp_path)
    assert "2 models" in caught.value.fault
    assert "'m-Q4-*-of-00002.gguf', 'm-Q8.gguf'" in caught.value.fault


def test_a_folder_with_an_incomplete_gguf_set_names_the_missing_shard(tmp_path: Path) -> None:
    touch(tmp_path, "m-00002-of-00002.gguf")
    with pytest.raises(ModelNotFoundError, match=r"m-00001-of-00002.gguf"):
        find_files(tmp_path)


def test_a_folder_with_an_index_is_the_indexed_shards(tmp_path: Path) -> None:
    touch(tmp_path, "x-1.safetensors", "x-2.safetensors", "stray.safetensors", "old.gguf")
    write_index(tmp_path, "x-2.safetensors", "x-1.safetensors", "x-2.safetensors")
    assert found(tmp_path) == ("safetensors", ["x-1.safetensors", "x-2.safetensors"])


def test_any_shard_of_an_index_leads_to_all(tmp_path: Path) -> None:
    touch(tmp_path, "x-1.safetensors", "x-2.safetensors", "stray.safetensors")
    write_index(tmp_path, "x-1.safetensors", "x-2.safetensors")
    assert found(tmp_path / "x-2.safetensors")[1] == ["x-1.safetensors", "x-2.safetensors"]
    assert found(tmp_path / "stray.safetensors")[1] == ["stray.safetensors"]


def test_missing_shards_of_an_index_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "x-1.safetensors")
    write_index(tmp_path, "x-1.safetensors", "x-2.safetensors", "x-3.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"2 of 3 shards are missing .*'x-2.safetensors', 'x-3.safetensors'"):
        find_files(tmp_path)


def test_an_index_without_any_shard_names_them(tmp_path: Path) -> None:
    write_index(tmp_path, "x-1.safetensors")
    with pytest.raises(ModelNotFoundError, match="1 of 1 shards"):
        find_files(tmp_path)


def test_the_single_file_comes_before_an_index(tmp_path: Path) -> None:
    touch(tmp_path, "model.safetensors", "x-1.safetensors")
    write_index(tmp_path, "x-1.safetensors")
    assert found(tmp_path) == ("safetensors", ["model.safetensors"])


def test_the_only_safetensors_file_of_a_folder_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "weights.safetensors")
    assert found(tmp_path) == ("safetensors", ["weights.safetensors"])


def test_several_safetensors_files_need_an_index(tmp_path: Path) -> None:
    touch(tmp_path, "a.safetensors", "b.safetensors")
    with pytest.raises(ModelNotFoundError, match=f"holds 2 .safetensors files and no {INDEX}"):
        find_files(tmp_path)


def test_a_folder_of_pickles_says_what_to_do(tmp_path: Path) -> None:
    touch(tmp_path, "pytorch_model.bin", "config.json")
    with pytest.raises(ModelNotFoundError, match="convert them to safetensors"):
        find_files(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"holds no .safetensors and no .gguf file"):
        find_files(tmp_path)


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"cannot be read|no file"):
        find_files(tmp_path / ("x" * 5000 + ".safetensors"))
