"""Brings one file: goes on where it stopped, repeats what broke, and checks what arrived."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from huggingface_hub import constants, get_session
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented, not listed

from longlens.errors import FormatError, LonglensError
from longlens.hub.faults import HTTP_ERROR, disk_fault, hub_fault, is_transient
from longlens.hub.listing import HubAccess, HubFile

_PIECE_BYTES = 4 * 1024**2
_NOT_SATISFIABLE = 416


class Watcher(Protocol):
    """Is told how a download goes on."""

    def start(self, num_files: int, total_bytes: int) -> None:
        """So many files and bytes are still to come."""

    def received(self, num_bytes: int) -> None:
        """Bytes arrived, or, if negative, have to be fetched again."""

    def checking(self, name: str) -> None:
        """A file is whole and its checksum is computed."""


def fetch_file(url: str, file: HubFile, partial: Path, access: HubAccess, watcher: Watcher) -> None:
    """Fill `partial` with a file's content, beginning at what it holds already, and check it.

    Args:
        url: where the file is.
        file: its size and checksum.
        partial: where it grows; it stays after an interruption and is removed if its content is wrong.
        access: how the hub is reached.
        watcher: is told what arrives.

    Raises:
        ModelNotFoundError: the hub refuses or cannot be reached any more, or the folder cannot be written.
        CapacityError: the disk is full.
        FormatError: what arrived is not what the hub promised.
        LonglensError: another process is downloading the same file.
    """
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as sink:
            _lock(sink, partial)
            _fill(sink, url, file, access, watcher)
            watcher.checking(file.name)
            if matches(file, partial):
                return
            partial.unlink()
    except OSError as error:
        raise disk_fault(error, partial) from None
    finally:
        _drop_if_empty(partial, file)
    watcher.received(-file.num_bytes)
    raise FormatError(
        f"{file.name} arrived with another checksum than the hub promises ({file.digest}); it was removed",
        "give the command again; if it happens twice, the repository or a proxy on the way is damaged",
    )


def matches(file: HubFile, path: Path) -> bool:
    """Compare a file on disk with the size and checksum that the hub states.

    Raises:
        OSError: it cannot be read.
    """
    if path.stat().st_size != file.num_bytes:
        return False
    if len(file.digest) == hashlib.sha256().digest_size * 2:
        hasher = hashlib.sha256()
    else:  # git's name of a blob
        hasher = hashlib.sha1(b"blob %d\0" % file.num_bytes, usedforsecurity=False)
    with path.open("rb") as content:
        while piece := content.read(_PIECE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest() == file.digest


def _fill(sink: BinaryIO, url: str, file: HubFile, access: HubAccess, watcher: Watcher) -> None:
    if sink.seek(0, os.SEEK_END) > file.num_bytes:
        sink.truncate(0)
    waits = iter(access.retry_waits_seconds)
    while (begin := sink.seek(0, os.SEEK_END)) < file.num_bytes:
        try:
            _stream(sink, url, (begin, min(begin + access.window_bytes, file.num_bytes)), access, watcher.received)
        except HTTP_ERROR as error:
            sink.flush()
            if sink.tell() > begin:
                waits = iter(access.retry_waits_seconds)
            wait = next(waits, None) if is_transient(error) else None
            if wait is None:
                raise hub_fault(error, file.name, access.endpoint, has_token=bool(access.token)) from None
            time.sleep(wait)
        else:
            if sink.tell() <= begin:
                raise FormatError(f"{file.name} ends after {begin} of {file.num_bytes} bytes", "try again later")
    sink.flush()
    if sink.tell() > file.num_bytes:
        watcher.received(file.num_bytes - sink.tell())


def _stream(
    sink: BinaryIO, url: str, window: tuple[int, int], access: HubAccess, received: Callable[[int], None]
) -> None:
    """Append one window of the file, or as much of it as comes before the connection breaks."""
    begin, end = window
    headers = access.headers() | {"range": f"bytes={begin}-{end - 1}"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    # The client drops the token where the hub redirects to another host.
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.status_code == _NOT_SATISFIABLE:
            sink.truncate(0)
            received(-begin)
        hf_raise_for_status(response)
        if response.status_code == 200 and begin > 0:  # the range was ignored: this is the file from its beginning
            sink.truncate(0)
            sink.seek(0)
            received(-begin)
        for piece in response.iter_bytes():
            sink.write(piece)
            received(len(piece))


def _lock(sink: BinaryIO, partial: Path) -> None:
    """Hold the growing file against other processes until it is closed."""
    try:
        fcntl.flock(sink, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_held = os.fstat(sink.fileno()).st_ino == partial.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        is_held = False
    if not is_held:
        raise LonglensError(
            f"another process is downloading {partial.name}", "wait for it, then give the command again"
        )


def _drop_if_empty(partial: Path, file: HubFile) -> None:
    with suppress(OSError):
        if file.num_bytes and partial.stat().st_size == 0:
            partial.unlink()
