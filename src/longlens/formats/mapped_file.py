"""A file on disk as a ByteSource, mapped into memory so that only what is used is read."""

from __future__ import annotations

import mmap
import stat
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType

from longlens.errors import FormatError, ModelNotFoundError, UsageError
from longlens.units import MIB, format_bytes

MAX_SMALL_FILE_BYTES = 256 * MIB


class MappedFile:
    """A read-only mapping of one file; ranges are views of it, never copies.

    Views stay valid after `close`, which only gives up the file's own hold: the mapping goes when the last view does.
    The price of a mapping: a file that another program cuts short while it is mapped ends this process with SIGBUS.

    Args:
        path: the file.

    Raises:
        ModelNotFoundError: there is no such file, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._view = _map(path)
        self._num_bytes = len(self._view)
        self._is_closed = False

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self.path)

    @property
    def num_bytes(self) -> int:
        """Length of the file when it was opened."""
        return self._num_bytes

    def read(self, offset: int, num_bytes: int) -> memoryview:
        """Return a view of exactly this range.

        Raises:
            FormatError: the range lies outside of the file.
            UsageError: the file was closed.
        """
        if self._is_closed:
            raise UsageError(f"{self.name} was closed", "read its tensors before the checkpoint is closed")
        if offset < 0 or num_bytes < 0 or offset + num_bytes > self._num_bytes:
            raise FormatError(
                f"{self.name} holds {self._num_bytes} bytes, bytes {offset} to {offset + num_bytes} were asked for",
                "the file is cut short: download it again",
            )
        return self._view[offset : offset + num_bytes]

    def close(self) -> None:
        """Give up the mapping; views that were handed out keep it alive until they go."""
        self._is_closed = True
        self._view = memoryview(b"")

    def __enter__(self) -> MappedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def missing_file(path: Path) -> ModelNotFoundError:
    """Say that there is no such path, and name what is most like it in the nearest folder that exists."""
    missing, folder = path, path.parent
    while not folder.is_dir() and folder != folder.parent:
        missing, folder = folder, folder.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        names = []
    close = get_close_matches(missing.name, names, n=1, cutoff=0.5)
    mend = f"did you mean {folder / close[0]}?" if close else f"nothing in {folder} has a name like it; check the path"
    return ModelNotFoundError(f"there is no file {path}", mend)


def is_plain_name(name: str) -> bool:
    """Whether a file name stays in its folder: no separator, no parent, nothing unprintable."""
    return name not in ("", ".", "..") and name.isprintable() and not any(mark in name for mark in "/\\:")


def read_small_file(path: Path) -> bytes | None:
    """Read a file such as config.json whole; None where there is none.

    Raises:
        FormatError: it is larger than `MAX_SMALL_FILE_BYTES`.
        ModelNotFoundError: it cannot be read.
    """
    if not path.is_file():
        return None
    with MappedFile(path) as file:
        if file.num_bytes > MAX_SMALL_FILE_BYTES:
            raise FormatError(
                f"{path} takes {format_bytes(file.num_bytes)}, more than {format_bytes(MAX_SMALL_FILE_BYTES)}",
                "this cannot be such a file: download it again",
            )
        return bytes(file.read(0, file.num_bytes))


def _map(path: Path) -> memoryview:
    try:
        # asked before opening: to open a pipe would wait for its writer
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ModelNotFoundError(f"{path} is a folder, not a file", "name one of the files in it")
        if not stat.S_ISREG(mode):
            raise ModelNotFoundError(f"{path} is not a plain file", "name a file on disk")
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:  # an empty file cannot be mapped
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (FileNotFoundError, NotADirectoryError):
        raise missing_file(path) from None
    except OSError as error:
        raise ModelNotFoundError(
            f"{path} cannot be read: {error.strerror}", "check that you may read it and that its disk is well"
        ) from None
