from __future__ import annotations

import errno
import fcntl
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from longlens.errors import CapacityError, FormatError, LonglensError, ModelNotFoundError
from longlens.hub import transfer
from longlens.hub.listing import HubFile
from longlens.hub.transfer import fetch_file, matches
from tests.hub.mock_hub import ACCESS, Answer, Watched, answering

CONTENT = bytes(range(256)) * 4
FILE = HubFile("m.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
URL = "http://hub/a/b/resolve/0/m.gguf"


class Breaking(httpx2.SyncByteStream):
    """A body whose connection is lost after its bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        if self.content:
            yield self.content
        raise httpx2.ReadError("connection lost")


def window(request: httpx2.Request) -> tuple[int, int]:
    begin, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return int(begin), int(last) + 1


def serve(request: httpx2.Request) -> httpx2.Response:
    begin, end = window(request)
    return httpx2.Response(206, content=CONTENT[begin:end])


def fetch(folder: Path, answer: Answer, file: HubFile = FILE) -> tuple[Path, list[httpx2.Request], Watched]:
    partial, watched = folder / "partial", Watched()
    with answering(answer) as requests:
        fetch_file(URL, file, partial, ACCESS, watched)
    return partial, requests, watched


def test_a_file_arrives_whole_and_is_checked(tmp_path: Path) -> None:
    partial, _, watched = fetch(tmp_path, serve)
    assert partial.read_bytes() == CONTENT
    assert (watched.num_bytes, watched.checked) == (len(CONTENT), ["m.gguf"])


def test_what_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(CONTENT[:100])
    partial, requests, watched = fetch(tmp_path, serve)
    assert partial.read_bytes() == CONTENT
    assert [window(request) for request in requests] == [(100, len(CONTENT))]
    assert watched.num_bytes == len(CONTENT) - 100


def test_a_file_that_is_whole_needs_no_request(tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(CONTENT)
    assert fetch(tmp_path, serve)[1] == []


def test_an_empty_file_needs_no_request(tmp_path: Path) -> None:
    partial, requests, _ = fetch(tmp_path, serve, HubFile("x", 0, hashlib.sha256().hexdigest()))
    assert (partial.read_bytes(), requests) == (b"", [])


def test_more_than_the_file_holds_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(b"x" * 2000)
    assert fetch(tmp_path, serve)[0].read_bytes() == CONTENT


def test_a_large_file_is_asked_for_in_windows(tmp_path: Path) -> None:
    with answering(serve) as requests:
        fetch_file(URL, FILE, tmp_path / "partial", replace(ACCESS, window_bytes=500), Watched())
    assert [window(request) for request in requests] == [(0, 500), (500, 1000), (1000, 1024)]
    assert (tmp_path / "partial").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_the_file_from_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(CONTENT[:100])
    partial, _, watched = fetch(tmp_path, lambda _: httpx2.Response(200, content=CONTENT))
    assert partial.read_bytes() == CONTENT
    assert watched.num_bytes == len(CONTENT) - 100


def test_a_connection_may_break_as_often_as_it_brings_something(tmp_path: Path) -> None:
    def trickle(request: httpx2.Request) -> httpx2.Response:
        begin, end = window(request)
        return httpx2.Response(206, stream=Breaking(CONTENT[begin : min(end, begin + 100)]))

    partial, requests, watched = fetch(tmp_path, trickle)
    assert partial.read_bytes() == CONTENT
    assert len(requests) == 11
    assert watched.num_bytes == len(CONTENT)


def test_a_connection_that_brings_nothing_more_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    def stuck(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(206, stream=Breaking(CONTENT[window(request)[0] : 300]))

    with pytest.raises(ModelNotFoundError, match="what has arrived is kept"):
        fetch(tmp_path, stuck)
    assert (tmp_path / "partial").read_bytes() == CONTENT[:300]


def test_a_body_that_ends_early_and_says_so_never_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="ends after 0 of 1024 bytes"):
        fetch(tmp_path, lambda _: httpx2.Response(206, content=b""))
    assert not (tmp_path / "partial").exists()


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (416, 1), (500, 3), (503, 3), (429, 3)])
def test_only_what_may_pass_is_tried_again(tmp_path: Path, status: int, attempts: int) -> None:
    with answering(lambda _: httpx2.Response(status)) as requests, pytest.raises(LonglensError, match=str(status)):
        fetch_file(URL, FILE, tmp_path / "partial", ACCESS, Watched())
    assert len(requests) == attempts
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [CONTENT[::-1], CONTENT + b"x"])
def test_wrong_content_is_removed_and_said(tmp_path: Path, wrong: bytes) -> None:
    with pytest.raises(FormatError, match="another checksum"):
        fetch(tmp_path, lambda _: httpx2.Response(200, content=wrong))
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_is_checked_by_gits_name_for_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    git = HubFile("x", 6, "ce013625030ba8dba906f756967f9e9ca394464a")  # git hash-object
    assert matches(git, path)
    assert not matches(replace(git, digest="0" * 40), path)
    assert not matches(replace(git, num_bytes=7), path)


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with (tmp_path / "partial").open("ab") as other:
        other.write(CONTENT[:10])
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LonglensError, match="another process is downloading"):
            fetch(tmp_path, serve)
    assert (tmp_path / "partial").read_bytes() == CONTENT[:10]


def test_a_disk_that_fills_up_is_said_and_what_came_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        (tmp_path / "partial").write_bytes(CONTENT[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_stream", full)
    with pytest.raises(CapacityError, match="the disk is full"):
        fetch(tmp_path, serve)
    assert (tmp_path / "partial").read_bytes() == CONTENT[:50]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LonglensError, match="cannot be written"):
        fetch(tmp_path / "file", serve)
