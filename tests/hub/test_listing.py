from __future__ import annotations

from typing import Any

import httpx2
import pytest

from longlens.errors import FormatError, ModelNotFoundError
from longlens.hub.listing import HubAccess, HubFile, access_of_user, list_repository
from tests.hub.mock_hub import ACCESS, answering

COMMIT, SHA1, SHA256 = "0" * 40, "1" * 40, "2" * 64


def entry(**changes: Any) -> dict[str, Any]:
    return {"rfilename": "config.json", "size": 5, "blobId": SHA1} | changes


def answer(*siblings: Any, sha: object = COMMIT) -> httpx2.Response:
    return httpx2.Response(200, json={"id": "a/b", "sha": sha, "siblings": list(siblings)})


def test_files_have_the_size_and_checksum_of_their_content_not_of_their_pointer() -> None:
    large = entry(rfilename="m.gguf", lfs={"sha256": SHA256, "size": 10**12, "pointerSize": 134})
    with answering(lambda _: answer(entry(), large)) as requests:
        listing = list_repository("a/b", ACCESS)
    assert listing.commit == COMMIT
    assert listing.files == (HubFile("config.json", 5, SHA1), HubFile("m.gguf", 10**12, SHA256))
    assert str(requests[0].url) == "http://hub/api/models/a/b/revision/main?blobs=true"


def test_names_are_quoted_in_addresses() -> None:
    with answering(lambda _: answer(entry(rfilename="a b/c#d?.json"))):
        listing = list_repository("a/b", ACCESS)
    assert listing.url(listing.files[0], "http://hub") == f"http://hub/a/b/resolve/{COMMIT}/a%20b/c%23d%3F.json"


def test_the_token_is_sent_and_never_shown() -> None:
    access = HubAccess(token="secret", endpoint="http://hub")
    with answering(lambda _: answer()) as requests:
        list_repository("a/b", access)
    assert requests[0].headers["authorization"] == "Bearer secret"
    assert "secret" not in repr(access)
    with answering(lambda _: answer()) as requests:
        list_repository("a/b", ACCESS)
    assert "authorization" not in requests[0].headers


def test_a_token_that_is_named_goes_before_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "own")
    assert access_of_user("named").token == "named"
    assert access_of_user(None).token == "own"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "./x", ".", "", "a\0b", 3, None])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: object) -> None:
    with answering(lambda _: answer(entry(rfilename=name))), pytest.raises(FormatError, match="not understood"):
        list_repository("a/b", ACCESS)


@pytest.mark.parametrize(
    "changes",
    [
        {"blobId": "../../x"},
        {"blobId": None},
        {"size": -1},
        {"size": None},
        {"size": "5"},
        {"lfs": {"sha256": SHA1, "size": 1}},
        {"lfs": {"size": 1}},
    ],
)
def test_a_size_or_checksum_that_is_none_is_refused(changes: dict[str, object]) -> None:
    with answering(lambda _: answer(entry(**changes))), pytest.raises(FormatError, match="not understood"):
        list_repository("a/b", ACCESS)


@pytest.mark.parametrize("sha", [None, "main", "../../x", 5])
def test_a_commit_that_is_none_is_refused(sha: object) -> None:
    with answering(lambda _: answer(sha=sha)), pytest.raises(FormatError, match="without a commit"):
        list_repository("a/b", ACCESS)


@pytest.mark.parametrize("text", ["<html>", "[]", "3", "{}", '{"sha": 1, "siblings": 3}'])
def test_what_is_not_a_listing_is_refused(text: str) -> None:
    with answering(lambda _: httpx2.Response(200, text=text)), pytest.raises(FormatError, match="http://hub answered"):
        list_repository("a/b", ACCESS)


def test_a_hub_that_cannot_be_reached_is_a_fault() -> None:
    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("connection refused")

    with answering(refuse), pytest.raises(ModelNotFoundError, match="cannot be reached"):
        list_repository("a/b", ACCESS)
