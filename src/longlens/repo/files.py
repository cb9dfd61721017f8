"""Which files of a folder are text worth packing, and why the others are left out.

Files are opened without following links and without waiting, read up to a limit, and read again when they changed
meanwhile. Their bytes are kept as they are, whatever their encoding.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from longlens.errors import UsageError
from longlens.repo.file_rules import (
    MOST_FILE_BYTES,
    REPOSITORY_FOLDERS,
    is_dependency_config,
    is_left_out_folder,
    reason_by_content,
    reason_by_path,
)
from longlens.repo.ignore_rules import GIT_IGNORE, OWN_IGNORE, IgnoreRules
from longlens.units import format_bytes

_CHANGING = "it changed while it was read, twice"
_SUBMODULE, _UNREADABLE = "a submodule", "unreadable"
_UNTRACKED = 'not tracked by git ("git add" takes it in)'
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "ls-files", "-z")


@dataclass(frozen=True)
class LeftOut:
    """A path that is not taken, and why.

    Attributes:
        path: relative to the root, with slashes.
        reason: the rest of "PATH is left out: ".
        is_passing: the file may be read another time; what is known of it still holds.
    """

    path: str
    reason: str
    is_passing: bool = False


@dataclass(frozen=True)
class FoundFile:
    """A file whose name, size and kind do not keep it out.

    Attributes:
        path: relative to the root, with slashes; bytes that are not UTF-8 are surrogate escapes.
        num_bytes: its size when it was found.
    """

    path: str
    num_bytes: int


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        files: candidates, in ascending order of their paths' bytes.
        left_out: the others, in the same order.
        source: "git" or "walk".
    """

    files: tuple[FoundFile, ...]
    left_out: tuple[LeftOut, ...]
    source: str


def list_files(root: Path, *, most_bytes: int = MOST_FILE_BYTES) -> Listing:
    """List the files of a repository: what git tracks, or, without git, all that a walk finds.

    Args:
        root: a folder.
        most_bytes: larger files are left out.

    Raises:
        UsageError: `root` is no folder, or it cannot be listed.
    """
    if not root.is_dir():
        fault = "is not a folder" if root.exists() else "does not exist"
        raise UsageError(f"{root} {fault}", "give the folder of a repository")
    left_out: list[LeftOut] = []
    tracked = _tracked_by_git(root)
    if tracked is None:
        paths, source = sorted(_walk(root, left_out), key=os.fsencode), "walk"
    else:
        paths, source = sorted(_without_ignored(root, tracked, left_out), key=os.fsencode), "git"
    files = []
    folders = _RealFolders(root)
    for path in paths:
        found = _look_at(root, path, folders, most_bytes)
        if isinstance(found, FoundFile):
            files.append(found)
        else:
            left_out.append(found)
    return Listing(tuple(files), tuple(sorted(left_out, key=lambda each: os.fsencode(each.path))), source)


def read_file(root: Path, path: str, *, most_bytes: int = MOST_FILE_BYTES) -> bytes | LeftOut:
    """Read a listed file whole, or say why it is left out after all."""
    for _ in range(2):
        try:
            content = _read_once(root / path, most_bytes)
        except OSError as error:
            return LeftOut(
                path, f"{_UNREADABLE}: {error.strerror}", is_passing=not isinstance(error, FileNotFoundError)
            )
        if isinstance(content, str):
            return LeftOut(path, content)
        if content is not None:
            why_not = reason_by_content(path, content)
            return content if why_not is None else LeftOut(path, why_not)
    return LeftOut(path, _CHANGING, is_passing=True)


def _read_once(path: Path, most_bytes: int) -> bytes | str | None:
    """Return the bytes, the reason why not, or None for a file that changed meanwhile."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            return "not a regular file"
        if before.st_size > most_bytes:
            return _over_size(before.st_size, most_bytes)
        parts = []
        wanted = most_bytes + 1
        while wanted > 0 and (part := file.read(wanted)):
            parts.append(part)
            wanted -= len(part)
        after = os.fstat(file.fileno())
    content = b"".join(parts)
    is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return content if is_same and len(content) == after.st_size else None


def _look_at(root: Path, path: str, folders: _RealFolders, most_bytes: int) -> FoundFile | LeftOut:
    try:
        status = os.lstat(root / path)
    except OSError as error:
        is_gone = isinstance(error, FileNotFoundError | NotADirectoryError)
        why_not = "git tracks it, but it is not there" if is_gone else f"{_UNREADABLE}: {error.strerror}"
        return LeftOut(path, why_not, is_passing=not is_gone)
    if not folders.are_real(path):
        return LeftOut(path, "below a symbolic link, which is not followed")
    if stat.S_ISLNK(status.st_mode):
        return LeftOut(path, folders.describe_link(path))
    if stat.S_ISDIR(status.st_mode):
        return LeftOut(path, _SUBMODULE)
    if not stat.S_ISREG(status.st_mode):
        return LeftOut(path, "not a regular file")
    if (reason := reason_by_path(path)) is not None:
        return LeftOut(path, reason)
    if status.st_size > most_bytes:
        return LeftOut(path, _over_size(status.st_size, most_bytes))
    return FoundFile(path, status.st_size)


class _RealFolders:
    """Which folders of a repository are folders, and not links to others."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._is_real: dict[str, bool] = {"": True}

    def are_real(self, path: str) -> bool:
        """Whether no folder above a path is a link."""
        folder = path.rpartition("/")[0]
        if folder not in self._is_real:
            is_link = os.path.islink(os.path.join(self._root, folder))
            self._is_real[folder] = not is_link and self.are_real(folder)
        return self._is_real[folder]

    def describe_link(self, path: str) -> str:
        """Say why a link is left out."""
        target = os.path.realpath(os.path.join(self._root, path))
        is_inside = target == self._root or target.startswith(self._root.rstrip("/") + "/")
        return "a symbolic link, which is not followed" if is_inside else "a symbolic link out of the repository"


def _over_size(num_bytes: int, most_bytes: int) -> str:
    return f"{format_bytes(num_bytes)}, at most {format_bytes(most_bytes)} are taken"


def _tracked_by_git(root: Path) -> list[str] | None:
    """Return what git tracks below `root`; None where git is missing, refuses, or tracks nothing here."""
    listing = _git(root, "--cached")
    return sorted(set(listing)) if listing else None


def _git(root: Path, *options: str) -> list[str] | None:
    try:
        done = subprocess.run([*_GIT, *options], cwd=root, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name] if done.returncode == 0 else None


def _without_ignored(root: Path, tracked: Iterable[str], left_out: list[LeftOut]) -> Iterator[str]:
    others = _git(root, "--others", "--directory", f"--exclude-per-directory={GIT_IGNORE}")
    left_out += [LeftOut(path.rstrip("/"), _UNTRACKED) for path in others or ()]
    by_git = set(_git(root, "--cached", "--ignored", f"--exclude-per-directory={GIT_IGNORE}") or ())
    own = IgnoreRules(root, OWN_IGNORE)
    for path in tracked:
        if own.ignores(path):
            left_out.append(LeftOut(path, f"ignored by {OWN_IGNORE}"))
        elif path in by_git and not is_dependency_config(path):
            left_out.append(LeftOut(path, f"ignored by {GIT_IGNORE}"))
        else:
            yield path


def _walk(root: Path, left_out: list[LeftOut]) -> Iterator[str]:
    rules = [IgnoreRules(root, name) for name in (OWN_IGNORE, GIT_IGNORE)]
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            if not folder:
                raise UsageError(f"{root} cannot be listed: {error.strerror}", "check its permissions") from error
            left_out.append(LeftOut(folder, f"{_UNREADABLE}: {error.strerror}", is_passing=True))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            ignoring = next((each for each in rules if each.ignores_here(path, is_folder=is_folder)), None)
            if ignoring is not None:
                left_out.append(LeftOut(path, f"ignored by {ignoring.name}"))
            elif not is_folder:
                yield path
            elif entry.name in REPOSITORY_FOLDERS:
                continue
            elif is_left_out_folder(entry.name):
                left_out.append(LeftOut(path, "vendored, or a tool's own"))
            elif os.path.lexists(root / path / ".git"):
                left_out.append(LeftOut(path, "a repository of its own"))
            else:
                waiting.append(path)
