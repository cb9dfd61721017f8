"""What can go wrong on the way to the hub, said with a fault and a mend."""

from __future__ import annotations

import errno
from pathlib import Path

from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

from longlens.errors import CapacityError, LonglensError, ModelNotFoundError
from longlens.units import format_bytes

# The base of all errors of the client that huggingface_hub uses. Which client that is has changed twice (requests,
# httpx, httpx2), so it is asked for instead of imported by name.
HTTP_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]

_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_transient(error: BaseException) -> bool:
    """Say whether the same request may succeed a little later."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _TRANSIENT_STATUS
    return isinstance(error, HTTP_ERROR)


def hub_fault(error: BaseException, what: str, endpoint: str, *, has_token: bool) -> LonglensError:
    """Make a fault of what the HTTP client raised.

    Args:
        error: one of its errors, or of the operating system.
        what: the repository, or a file of it.
        endpoint: the hub's address.
        has_token: a token was sent.
    """
    if isinstance(error, OfflineModeIsEnabled):
        return ModelNotFoundError(
            f"{what} was not asked for: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set", "unset it to download"
        )
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, what, endpoint, has_token=has_token)
    if isinstance(error, HTTP_ERROR):
        return ModelNotFoundError(
            f"{endpoint} cannot be reached for {what}: {_reason(error)}",
            "check the network, proxies and HF_ENDPOINT, and give the command again; what has arrived is kept",
        )
    return disk_fault(error, Path(what)) if isinstance(error, OSError) else ModelNotFoundError(str(error), "try again")


def disk_fault(error: OSError, path: Path) -> LonglensError:
    """Make a fault of a file that could not be written."""
    if error.errno in _FULL:
        return CapacityError(
            f"the disk is full: {path} could not be written",
            "free space and give the command again; what has arrived is kept",
        )
    return ModelNotFoundError(
        f"{path} cannot be written: {error.strerror or error}", "check the folder's rights, or set HF_HOME to another"
    )


def no_room(needed_bytes: int, free_bytes: int, folder: Path) -> CapacityError:
    """Say that a download does not fit the disk."""
    return CapacityError(
        f"the download needs {format_bytes(needed_bytes)}, {format_bytes(free_bytes)} are free in {folder}",
        f"free {format_bytes(needed_bytes - free_bytes)} more, or choose another disk with --local-dir DIR or HF_HOME",
    )


def _refusal(error: HfHubHTTPError, what: str, endpoint: str, *, has_token: bool) -> LonglensError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError) or status == 403:
        mend = (
            "the token may not read it: accept its terms on its page" if has_token else "accept its terms, set HF_TOKEN"
        )
        return ModelNotFoundError(f"{what} is not open to everybody ({endpoint} answers {status})", mend)
    if status in (401, 404):
        mend = (
            "check the spelling, and that the token may read it"
            if has_token
            else "check the spelling; if it is private, set HF_TOKEN"
        )
        organisation = what.partition("/")[0]
        if organisation.lower() in ("z-ai", "zai"):
            mend = f"Z.ai publishes GLM as zai-org/..., not {organisation}/...; {mend}"
        return ModelNotFoundError(f"{endpoint} has no {what}, or does not show it (it answers {status})", mend)
    return ModelNotFoundError(
        f"{endpoint} answers {status} for {what}", "try again later; what has arrived is kept and goes on from there"
    )


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}, {text}" if text else type(error).__name__
