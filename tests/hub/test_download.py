from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from longlens.errors import CapacityError, FormatError, ModelNotFoundError
from longlens.hub import download
from longlens.hub.cached import find_cached, repository_folder
from longlens.hub.download import Wanted, pull
from longlens.hub.listing import HubAccess
from longlens.hub.reference import HubReference
from tests.hub.mock_hub import ACCESS, Watched, answering

COMMIT = "0" * 40
SHARDS = tuple(f"m-Q8_0-0000{n}-of-00002.gguf" for n in (1, 2))
FILES = {SHARDS[0]: b"first", SHARDS[1]: b"second!", "README.md": b"read"}
MODEL = Wanted(HubReference("a/b"))


def hub(request: httpx2.Request) -> httpx2.Response:
    if request.url.path.startswith("/api/"):
        siblings = [
            {
                "rfilename": name,
                "size": 134,
                "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)},
            }
            for name, content in FILES.items()
        ]
        return httpx2.Response(200, json={"sha": COMMIT, "siblings": siblings})
    content = FILES[request.url.path.rsplit("/", 1)[-1]]
    return httpx2.Response(206, content=content[int(request.headers["range"][6:].split("-")[0]) :])


@pytest.fixture
def access(tmp_path: Path) -> HubAccess:
    return replace(ACCESS, cache=tmp_path)


def test_a_model_is_brought_and_found_afterwards(access: HubAccess) -> None:
    watched = Watched()
    with answering(hub) as requests:
        pulled = pull(MODEL, access, watched)
    assert find_cached(repository_folder(access.cache, "a/b"), "a/b", None) == pulled.entries[0]
    assert [file.path.read_bytes() for file in pulled.files] == [b"first", b"second!"]
    assert (pulled.downloaded_bytes, watched.num_bytes, watched.announced) == (12, 12, (2, 12))
    assert len(requests) == 3


def test_a_second_call_only_asks_what_there_is(access: HubAccess) -> None:
    with answering(hub):
        pull(MODEL, access, Watched())
    with answering(hub) as requests:
        again = pull(MODEL, access, Watched())
    assert len(requests) == 1
    assert again.downloaded_bytes == 0
    assert all(file.was_here for file in again.files)


def test_a_shard_that_fails_leaves_the_others_and_no_model(access: HubAccess) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(404) if request.url.path.endswith(SHARDS[1]) else hub(request)

    with answering(fail), pytest.raises(ModelNotFoundError, match=SHARDS[1]):
        pull(MODEL, access, Watched())
    assert find_cached(repository_folder(access.cache, "a/b"), "a/b", None) is None
    with answering(hub) as requests:
        pulled = pull(MODEL, access, Watched())
    assert [file.was_here for file in pulled.files] == [True, False]
    assert len(requests) == 2


def test_only_what_is_still_to_come_must_fit_the_disk(access: HubAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 7

    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: Usage)
    with answering(hub), pytest.raises(CapacityError, match="needs 12 B, 7 B are free"):
        pull(MODEL, access, Watched())
    with answering(hub):
        pull(Wanted(HubReference("a/b"), ("README.md",)), access, Watched())
    partial = repository_folder(access.cache, "a/b") / "blobs"
    name = f"{hashlib.sha256(b'first').hexdigest()}.longlens.incomplete"
    (partial / name).write_bytes(b"first")
    with answering(hub) as requests:
        pulled = pull(MODEL, access, Watched())
    assert pulled.files[0].path.read_bytes() == b"first"
    assert len(requests) == 2


def test_a_wrong_file_stops_the_download(access: HubAccess) -> None:
    def swap(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(206, content=b"FIRST") if request.url.path.endswith(SHARDS[0]) else hub(request)

    with answering(swap) as requests, pytest.raises(FormatError, match="another checksum"):
        pull(MODEL, access, Watched())
    assert len(requests) == 2
    assert not list(access.cache.rglob("*.gguf"))


def test_a_cache_that_may_not_be_written_is_a_fault(access: HubAccess) -> None:
    repository_folder(access.cache, "a/b").touch()
    with answering(hub), pytest.raises(ModelNotFoundError, match="cannot be written"):
        pull(MODEL, access, Watched())
