from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from longlens.errors import UsageError
from longlens.hub.cached import find_cached, repository_folder


def shelve(root: Path, commit: str, *names: str) -> Path:
    for name in names:
        path = root / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root / "snapshots" / commit


def point(root: Path, commit: str) -> None:
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(commit)


def test_a_folder_of_the_cache_is_named_as_huggingface_hub_names_it() -> None:
    assert repository_folder(Path("hub"), "a/b-c") == Path("hub/models--a--b-c")


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert find_cached(tmp_path, "a/b", None) is None
    (tmp_path / "snapshots").mkdir()
    assert find_cached(tmp_path, "a/b", None) is None


def test_a_quantisation_of_an_older_commit_is_found(tmp_path: Path) -> None:
    old, new = shelve(tmp_path, "old", "m-Q4_K_M.gguf"), shelve(tmp_path, "new", "m-Q8_0.gguf")
    point(tmp_path, "new")
    assert find_cached(tmp_path, "a/b", "Q8_0") == new / "m-Q8_0.gguf"
    assert find_cached(tmp_path, "a/b", "Q4_K_M") == old / "m-Q4_K_M.gguf"


def test_main_goes_before_newer_commits_and_newer_before_older(tmp_path: Path) -> None:
    folders = [shelve(tmp_path, commit, "m-Q8_0.gguf") for commit in ("c", "a", "b")]
    for seconds, folder in enumerate(folders):
        os.utime(folder, (seconds, seconds))
    assert find_cached(tmp_path, "a/b", None) == folders[2] / "m-Q8_0.gguf"
    point(tmp_path, "c")
    assert find_cached(tmp_path, "a/b", None) == folders[0] / "m-Q8_0.gguf"


def test_a_link_whose_content_is_gone_does_not_count(tmp_path: Path) -> None:
    (shelve(tmp_path, "c", "m-Q8_0.gguf") / "m-Q4_K_M.gguf").symlink_to("gone")
    assert find_cached(tmp_path, "a/b", "Q4_K_M") is None


def test_a_split_model_without_a_shard_is_not_there(tmp_path: Path) -> None:
    shelve(tmp_path, "c", "m-Q8_0-00001-of-00002.gguf")
    assert find_cached(tmp_path, "a/b", "Q8_0") is None
    folder = shelve(tmp_path, "c", "m-Q8_0-00002-of-00002.gguf")
    assert find_cached(tmp_path, "a/b", "Q8_0") == folder / "m-Q8_0-00001-of-00002.gguf"


def test_a_safetensors_model_is_its_folder_once_all_that_the_index_names_is_there(tmp_path: Path) -> None:
    folder = shelve(tmp_path, "c", "config.json", "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    assert find_cached(tmp_path, "a/b", None) is None
    shelve(tmp_path, "c", "b.safetensors")
    assert find_cached(tmp_path, "a/b", None) == folder


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"x": 3}}'])
def test_a_damaged_index_is_not_a_whole_model(tmp_path: Path, text: str) -> None:
    folder = shelve(tmp_path, "c", "config.json", "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    assert find_cached(tmp_path, "a/b", None) is None


def test_several_models_of_a_quantisation_are_an_error_here_too(tmp_path: Path) -> None:
    shelve(tmp_path, "c", "x-Q8_0.gguf", "y-Q8_0.gguf")
    with pytest.raises(UsageError, match="2 models"):
        find_cached(tmp_path, "a/b", "Q8_0")
