from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from huggingface_hub import try_to_load_from_cache

from longlens.hub.listing import HubFile, Listing
from longlens.hub.stores import CacheStore, FolderStore, Store

CONTENT = b"weights"
FILE = HubFile("Q4/m.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
LISTING = Listing("a/b", "0" * 40, (FILE,))


@pytest.fixture
def cache(tmp_path: Path) -> CacheStore:
    return CacheStore(tmp_path / "hub", LISTING)


@pytest.fixture
def folder(tmp_path: Path, cache: CacheStore) -> FolderStore:
    return FolderStore(tmp_path / "models", cache)


def grow(store: Store) -> Path:
    partial = store.partial(FILE)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(CONTENT)
    return store.keep(FILE)


def test_huggingface_hub_finds_what_was_kept(cache: CacheStore) -> None:
    path = grow(cache)
    cache.finish()
    assert try_to_load_from_cache("a/b", FILE.name, cache_dir=cache.cache) == str(path)
    assert path.read_bytes() == CONTENT
    assert os.readlink(path) == f"../../../blobs/{FILE.digest}"


def test_a_growing_file_is_not_found(cache: CacheStore) -> None:
    cache.partial(FILE).parent.mkdir(parents=True)
    cache.partial(FILE).write_bytes(CONTENT)
    assert cache.find(FILE) is None


def test_content_that_another_commit_brought_is_linked_not_fetched(cache: CacheStore) -> None:
    grow(cache)
    later = CacheStore(cache.cache, Listing("a/b", "1" * 40, (FILE,)))
    assert later.find(FILE) == later.folder / FILE.name
    assert (later.folder / FILE.name).samefile(cache.folder / FILE.name)


def test_content_of_a_wrong_size_does_not_count(cache: CacheStore) -> None:
    grow(cache).resolve().write_bytes(b"cut")
    assert cache.find(FILE) is None
    assert grow(cache).read_bytes() == CONTENT


def test_a_file_system_without_links_has_the_file_itself(cache: CacheStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    path = grow(cache)
    assert not path.is_symlink()
    assert cache.find(FILE) == path


def test_a_folder_holds_the_file_under_its_name_alone(folder: FolderStore) -> None:
    assert grow(folder) == folder.folder / FILE.name
    assert [path.name for path in folder.folder.rglob("*")] == ["Q4", "m.gguf"]
    assert folder.find(FILE) == folder.folder / FILE.name


def test_another_content_of_the_same_name_and_size_is_not_taken_for_it(folder: FolderStore) -> None:
    grow(folder).write_bytes(b"WEIGHTS")
    assert folder.find(FILE) is None
    assert grow(folder).read_bytes() == CONTENT


@pytest.mark.parametrize("can_link", [True, False])
def test_a_folder_takes_what_the_cache_has(
    folder: FolderStore, cache: CacheStore, can_link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = grow(cache)
    if not can_link:

        def refuse(*_: object) -> None:
            raise OSError(errno.EXDEV, "another disk")

        monkeypatch.setattr(os, "link", refuse)
    path = folder.find(FILE)
    assert path == folder.folder / FILE.name
    assert path.read_bytes() == CONTENT
    assert path.samefile(cached) is can_link
    assert not path.is_symlink()
