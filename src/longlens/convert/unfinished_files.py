"""Files that grow under another name, and the journal that tells which of their tensors are whole.

Beside the target lie `NAME.gguf.partial`, one a shard, and `NAME.gguf.progress`: a line that tells this run from any
other, then a line with the checksum of each finished tensor. A run that was killed is taken up at the first tensor
that has no line, or whose bytes are not those of its line; so nothing has to reach the disk in any order. The files
get their names when all of them are whole, the first shard last.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from longlens.convert.encoders import Bytes
from longlens.convert.shard_layout import Shard
from longlens.errors import CapacityError, LonglensError, UsageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PIECE_BYTES = 4 * 1024**2


class UnfinishedFiles:
    """The shards of one target while they are written; use in a `with` block.

    Args:
        target: what the journal is named after.
        shards: the files.
        run: tells this run from others: only what the same run left behind is taken up.
    """

    def __init__(self, target: Path, shards: Sequence[Shard], run: str) -> None:
        self._shards = tuple(shards)
        self._run = run
        self._journal_path = target.with_name(f"{target.name}.progress")
        self._places = [(shard, number) for shard in self._shards for number in range(len(shard.entries))]
        self._stack = ExitStack()
        self._journal: BinaryIO | None = None
        self._files: dict[Path, BinaryIO] = {}
        self._checksum = 0

    def __enter__(self) -> UnfinishedFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._stack.close()
        except OSError as fault:
            # On a full disk closing fails as writing did, which has been said.
            if error is None:
                raise disk_fault(fault, self._journal_path) from None

    def take_up(self, checked: Callable[[int], None]) -> int:
        """Open the files: those that the same run left behind, or new ones.

        Args:
            checked: is called with the number of each tensor that is there and whole.

        Returns:
            How many tensors are there, from the first on; writing goes on after them.

        Raises:
            LonglensError: another process writes the same target.
            UsageError: a file of the target's name is there, or the folder cannot be written to.
            CapacityError: the disk is full.
        """
        try:
            journal = self._stack.enter_context(self._journal_path.open("a+b"))
            self._journal = journal
            _lock(journal, self._journal_path)
            lines = _lines(journal)
            is_same = bool(lines) and lines[0][0].get("run") == self._run
            if not is_same or not self._are_there(is_whole=len(lines) > len(self._places)):
                self._begin(journal)
                return 0
            for shard in self._shards:
                self._files[shard.path] = self._stack.enter_context(_growing(shard).open("r+b"))
            return self._check(journal, lines, checked)
        except OSError as error:
            raise disk_fault(error, self._journal_path) from None

    def write(self, tensor: int, offset: int, data: Bytes) -> None:
        """Write a piece of a tensor; the pieces of one come in their order.

        Args:
            tensor: its number in all shards.
            offset: where in the tensor's data the piece begins.

        Raises:
            CapacityError: the disk is full; what is finished is kept.
        """
        shard, number = self._places[tensor]
        try:
            self._files[shard.path].seek(shard.offsets[number] + offset)
            self._files[shard.path].write(data.data)
        except OSError as error:
            raise disk_fault(error, _growing(shard)) from None
        self._checksum = zlib.crc32(data.data, self._checksum if offset else 0)

    def finish_tensor(self, tensor: int) -> None:
        """Note that all pieces of a tensor are written.

        Raises:
            CapacityError: the disk is full; what was finished before is kept.
        """
        shard, number = self._places[tensor]
        line = {"tensor": shard.entries[number].name, "crc32": self._checksum}
        try:
            self._files[shard.path].flush()
            self._note(line)
        except OSError as error:
            raise disk_fault(error, _growing(shard)) from None

    def complete(self) -> None:
        """Give the files their names, and forget the journal.

        Raises:
            CapacityError: the disk is full.
        """
        try:
            for shard in reversed(self._shards):
                file = self._files[shard.path]
                file.flush()
                os.fsync(file.fileno())
            for shard in reversed(self._shards):
                os.replace(_growing(shard), shard.path)
            self._journal_path.unlink()
        except OSError as error:
            raise disk_fault(error, self._journal_path) from None

    def _are_there(self, *, is_whole: bool) -> bool:
        """Whether the files have their places; those that a whole run was about to name get their old names back."""
        for shard in self._shards:
            if is_whole and not _growing(shard).exists() and shard.path.exists():
                os.replace(shard.path, _growing(shard))
        return all(_growing(shard).exists() for shard in self._shards)

    def _begin(self, journal: BinaryIO) -> None:
        for shard in self._shards:
            if shard.path.exists():
                self._journal_path.unlink()
                raise UsageError(f"{shard.path} is there already", "remove it, or name another file")
        journal.truncate(0)
        for shard in self._shards:
            file = self._stack.enter_context(_growing(shard).open("w+b"))
            file.write(shard.header)
            file.flush()
            # The data is a hole until it is written, and so is what pads it.
            file.truncate(shard.num_bytes)
            self._files[shard.path] = file
        self._note({"run": self._run})

    def _check(self, journal: BinaryIO, lines: list[tuple[dict[str, Any], int]], checked: Callable[[int], None]) -> int:
        num_whole, end = 0, lines[0][1]
        for (shard, number), (line, line_end) in zip(self._places, lines[1:], strict=False):
            entry, file = shard.entries[number], self._files[shard.path]
            file.seek(shard.offsets[number])
            if line.get("tensor") != entry.name or line.get("crc32") != _checksum_of(file, entry.num_bytes):
                break
            checked(num_whole)
            num_whole, end = num_whole + 1, line_end
        journal.truncate(end)
        for shard in self._shards:
            self._files[shard.path].seek(0)
            self._files[shard.path].write(shard.header)
        return num_whole

    def _note(self, line: dict[str, object]) -> None:
        if self._journal is not None:
            self._journal.write(json.dumps(line).encode() + b"\n")
            self._journal.flush()


def room_taken(shards: Sequence[Shard]) -> int:
    """Bytes of disk that unfinished files of these shards hold already."""
    return sum(_growing(shard).stat().st_blocks * 512 for shard in shards if _growing(shard).exists())


def disk_fault(error: OSError, path: Path) -> LonglensError:
    """Make a fault of a file that could not be written."""
    if error.errno in _FULL:
        return CapacityError(
            f"the disk is full: {path} could not be written",
            "free space and give the command again: it goes on at the last finished tensor",
        )
    return UsageError(
        f"{path} cannot be written: {error.strerror or error}", "name a file in a folder that you can write to"
    )


def _growing(shard: Shard) -> Path:
    return shard.path.with_name(f"{shard.path.name}.partial")


def _lock(journal: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LonglensError(
            f"another process writes this target: it holds {path}", "wait for it, or name another file"
        ) from None


def _lines(journal: BinaryIO) -> list[tuple[dict[str, Any], int]]:
    """The whole lines of a journal and where each ends; the first that is cut or damaged ends it."""
    journal.seek(0)
    lines, end = [], 0
    for text in journal:
        end += len(text)
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict) or not text.endswith(b"\n"):
            break
        lines.append((line, end))
    return lines


def _checksum_of(file: BinaryIO, num_bytes: int) -> int:
    checksum = 0
    while num_bytes and (piece := file.read(min(num_bytes, _PIECE_BYTES))):
        checksum = zlib.crc32(piece, checksum)
        num_bytes -= len(piece)
    return checksum
