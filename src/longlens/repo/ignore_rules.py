"""What .gitignore and .longlensignore leave out, folder by folder, as git reads them."""

from __future__ import annotations

import os
from pathlib import Path

from pathspec import GitIgnoreSpec

GIT_IGNORE = ".gitignore"
OWN_IGNORE = ".longlensignore"
_MOST_BYTES = 1024 * 1024


class IgnoreRules:
    """The ignore files of one name in a repository, each read once, when its folder is first asked about.

    Args:
        root: the repository.
        name: `.gitignore` or `.longlensignore`.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self.name = name
        self._specs: dict[str, GitIgnoreSpec | None] = {}

    def ignores(self, path: str, *, is_folder: bool = False) -> bool:
        """Whether a path relative to the root is left out; the folders above it are looked at one by one, too."""
        parts = path.split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        return any(self._matches(folder + "/") for folder in above) or self._matches(path + "/" * is_folder)

    def ignores_here(self, path: str, *, is_folder: bool) -> bool:
        """As `ignores`, for a path whose folders are known not to be left out."""
        return self._matches(path + "/" * is_folder)

    def _matches(self, path: str) -> bool:
        # The deepest file that has a word on a path has the last one.
        parts = path.rstrip("/").split("/")
        for depth in range(len(parts) - 1, -1, -1):
            spec = self._spec("/".join(parts[:depth]))
            if spec is None:
                continue
            include = spec.check_file(path[len("/".join(parts[:depth])) + bool(depth) :]).include
            if include is not None:
                return include
        return False

    def _spec(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            self._specs[folder] = self._read(self._root / folder / self.name)
        return self._specs[folder]

    def _read(self, path: Path) -> GitIgnoreSpec | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            try:
                lines = file.read(_MOST_BYTES).decode("utf-8", "surrogateescape").splitlines()
            except OSError:
                return None
        # pathspec refuses what it cannot read (a lone "!"); git takes such a line for nothing.
        return GitIgnoreSpec.from_lines([line for line in lines if line.strip() not in {"!", "/"}])
