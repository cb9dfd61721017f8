"""What a repository on the hub holds: names, sizes and checksums, and how to ask for them.

Requests are made by huggingface_hub's HTTP client (proxies, HF_HUB_OFFLINE), with headers of our own: they say
`longlens`, its version and the token, and nothing about the machine.

Source:
    https://huggingface.co/docs/hub/api, GET /api/models/{repository}/revision/{revision}?blobs=true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants, get_session, get_token
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented, not listed

from longlens.errors import FormatError
from longlens.hub.faults import HTTP_ERROR, hub_fault

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubAccess:
    """How the hub is reached.

    Attributes:
        token: sent to the hub and to nobody else; None for none.
        endpoint: the hub's address; HF_ENDPOINT by default.
        cache: folder of the shared cache; HF_HUB_CACHE or HF_HOME/hub by default.
        retry_waits_seconds: waits before each further attempt after one that brought nothing.
        window_bytes: most bytes to ask for in one request; content networks refuse more than 50 GB.
    """

    token: str | None = field(default=None, repr=False)
    endpoint: str = constants.ENDPOINT
    cache: Path = field(default_factory=lambda: Path(constants.HF_HUB_CACHE))
    retry_waits_seconds: tuple[float, ...] = (1, 2, 4, 8)
    window_bytes: int = 8 * 1024**3

    def headers(self) -> dict[str, str]:
        """Headers of every request; encoded bodies would hide a file's size."""
        headers = {"user-agent": "longlens", "accept-encoding": "identity"}
        return headers | ({"authorization": f"Bearer {self.token}"} if self.token else {})


@dataclass(frozen=True)
class HubFile:
    """One file of a repository.

    Attributes:
        name: path within the repository, with slashes; it leads nowhere else.
        num_bytes: its size.
        digest: SHA-256 of the content (64 digits), or git's SHA-1 of the blob (40 digits) for a small file. The hub's
            ETag, and so the file's name among the cache's blobs.
    """

    name: str
    num_bytes: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]

    def url(self, file: HubFile, endpoint: str) -> str:
        """Where a file is fetched from."""
        return f"{endpoint}/{self.repository}/resolve/{self.commit}/{quote(file.name)}"


def access_of_user(token: str | None) -> HubAccess:
    """Reach the hub with a token that was named, else with HF_TOKEN, else with the one that `hf auth login` kept."""
    return HubAccess(token=token or get_token())


def list_repository(repository: str, access: HubAccess) -> Listing:
    """Ask the hub what a repository's main branch holds.

    Raises:
        ModelNotFoundError: there is no such repository, it may not be read, or the hub cannot be reached.
        FormatError: the answer is not what the hub's interface promises.
    """
    url = f"{access.endpoint}/api/models/{repository}/revision/main"
    try:
        response = get_session().get(
            url, params={"blobs": "true"}, headers=access.headers(), timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
        hf_raise_for_status(response)
        answer = response.json()
    except (HTTP_ERROR, OSError) as error:
        raise hub_fault(error, repository, access.endpoint, has_token=bool(access.token)) from None
    except ValueError:
        raise _strange(access.endpoint, "no JSON") from None
    return _read_listing(repository, answer, access.endpoint)


def _read_listing(repository: str, answer: Any, endpoint: str) -> Listing:
    try:
        commit = answer["sha"]
        files = tuple(_read_file(entry) for entry in answer["siblings"])
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(endpoint, f"a listing of {repository} that is not understood ({error})") from None
    if not isinstance(commit, str) or not _SHA1.fullmatch(commit):
        raise _strange(endpoint, f"a listing of {repository} without a commit")
    return Listing(repository, commit, files)


def _read_file(entry: dict[str, Any]) -> HubFile:
    name = entry["rfilename"]
    lfs = entry.get("lfs")
    num_bytes = lfs["size"] if lfs else entry["size"]
    digest = lfs["sha256"] if lfs else entry["blobId"]
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name or name == ".":
        raise ValueError(f"file name {name!r}")
    if not (_SHA256 if lfs else _SHA1).fullmatch(digest):
        raise ValueError(f"checksum {digest!r}")
    if not isinstance(num_bytes, int) or num_bytes < 0:
        raise ValueError(f"size {num_bytes!r}")
    return HubFile(name, num_bytes, digest)


def _strange(endpoint: str, what: str) -> FormatError:
    return FormatError(f"{endpoint} answered with {what}", "check HF_ENDPOINT and proxies, or try again later")
