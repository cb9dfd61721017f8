from __future__ import annotations

import httpx2
import pytest

from longlens.errors import FormatError, ModelNotFoundError
from longlens.hub.listing import HubFile
from longlens.hub.remote_source import WINDOW_BYTES, RemoteFile
from tests.hub.mock_hub import ACCESS, answering

CONTENT = bytes(range(256)) * (WINDOW_BYTES // 128)  # twice a window
FILE = HubFile("m.gguf", len(CONTENT), "0" * 64)


def ranges(request: httpx2.Request) -> httpx2.Response:
    begin, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return httpx2.Response(206, content=CONTENT[int(begin) : int(last) + 1])


def source(file: HubFile = FILE) -> RemoteFile:
    return RemoteFile("http://hub/a/b/resolve/0/m.gguf", file, ACCESS)


def test_a_range_is_what_lies_there_in_the_file() -> None:
    with answering(ranges):
        assert bytes(source().read(1000, 77)) == CONTENT[1000:1077]
        assert bytes(source().read(len(CONTENT) - 3, 3)) == CONTENT[-3:]


def test_small_reads_behind_each_other_share_one_request() -> None:
    with answering(ranges) as requests:
        remote = source()
        for offset in range(0, 4000, 8):
            assert bytes(remote.read(offset, 8)) == CONTENT[offset : offset + 8]
    assert len(requests) == 1


def test_nothing_is_asked_for_before_it_is_read() -> None:
    with answering(ranges) as requests:
        remote = source()
        assert (remote.name, remote.num_bytes) == ("m.gguf", len(CONTENT))
        assert remote.read(5, 0) == b""
    assert requests == []


@pytest.mark.parametrize("span", [(-1, 4), (0, len(CONTENT) + 1), (len(CONTENT), 1), (0, -1)])
def test_a_header_that_lies_about_sizes_is_refused_before_it_is_followed(span: tuple[int, int]) -> None:
    with answering(ranges) as requests, pytest.raises(FormatError, match="were asked for"):
        source().read(*span)
    assert requests == []


def test_a_server_that_ignores_ranges_is_not_listened_to() -> None:
    with answering(lambda _: httpx2.Response(200, content=CONTENT)), pytest.raises(FormatError, match="0 bytes"):
        source().read(0, 100)


def test_of_a_small_file_the_whole_will_do() -> None:
    with answering(lambda _: httpx2.Response(200, content=b"0123456789")):
        assert bytes(source(HubFile("config.json", 10, "0" * 40)).read(2, 3)) == b"234"


def test_fewer_bytes_than_promised_are_refused() -> None:
    with answering(lambda _: httpx2.Response(206, content=b"cut")), pytest.raises(FormatError, match="3 bytes"):
        source().read(0, 100)


def test_a_refusal_of_the_hub_is_a_fault_with_a_mend() -> None:
    with answering(lambda _: httpx2.Response(404, content=b"{}")), pytest.raises(ModelNotFoundError):
        source().read(0, 100)


def test_what_was_closed_is_asked_for_again() -> None:
    with answering(ranges) as requests:
        remote = source()
        remote.read(0, 8)
        remote.close()
        assert bytes(remote.read(0, 8)) == CONTENT[:8]
    assert len(requests) == 2
