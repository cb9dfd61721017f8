"""Where files of a repository lie: the cache that is shared with other programs, or a folder of the user's choice.

Source:
    https://huggingface.co/docs/huggingface_hub/guides/manage-cache: blobs/DIGEST holds each content once,
    snapshots/COMMIT/NAME are links to them, refs/main holds the commit that `main` was when last asked.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from longlens.hub.cached import repository_folder
from longlens.hub.listing import HubFile, Listing
from longlens.hub.transfer import matches

_PARTIAL = ".longlens.incomplete"


class Store(Protocol):
    """A place for the files of one listing; only whole, checked files are under their names."""

    @property
    def folder(self) -> Path:
        """The folder in which files have their names."""

    def find(self, file: HubFile) -> Path | None:
        """Give a file that is here already."""

    def partial(self, file: HubFile) -> Path:
        """Where a file grows; the same for the same content, so that a later run goes on."""

    def keep(self, file: HubFile) -> Path:
        """Give a grown, checked file its name."""

    def finish(self) -> None:
        """Note that all files are here."""


@dataclass(frozen=True)
class CacheStore:
    """The shared cache. Contents are found by checksum, so no content is fetched or kept twice in a repository."""

    cache: Path
    listing: Listing

    @property
    def folder(self) -> Path:
        """The snapshot of the listing's commit."""
        return self._root / "snapshots" / self.listing.commit

    @property
    def _root(self) -> Path:
        return repository_folder(self.cache, self.listing.repository)

    def _blob(self, file: HubFile) -> Path:
        return self._root / "blobs" / file.digest

    def find(self, file: HubFile) -> Path | None:
        """Give a file whose content is here, under another commit's name perhaps.

        Raises:
            OSError: the cache cannot be written.
        """
        for place in (self._blob(file), self.folder / file.name):
            if place.is_file() and place.stat().st_size == file.num_bytes:
                return self._link(file) if place == self._blob(file) else place
        return None

    def partial(self, file: HubFile) -> Path:
        """Beside the contents."""
        return self._root / "blobs" / f"{file.digest}{_PARTIAL}"

    def keep(self, file: HubFile) -> Path:
        """Move the content to its place and link it.

        Raises:
            OSError: the cache cannot be written.
        """
        os.replace(self.partial(file), self._blob(file))
        return self._link(file)

    def finish(self) -> None:
        """Let `main` lead to this commit.

        Raises:
            OSError: the cache cannot be written.
        """
        ref = self._root / "refs" / "main"
        ref.parent.mkdir(parents=True, exist_ok=True)
        growing = ref.with_name(f"main.{os.getpid()}{_PARTIAL}")
        growing.write_text(self.listing.commit)
        os.replace(growing, ref)

    def _link(self, file: HubFile) -> Path:
        name, blob = self.folder / file.name, self._blob(file)
        if name.exists() and name.samefile(blob):
            return name
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)
        try:
            name.symlink_to(os.path.relpath(blob, name.parent))
        except OSError:  # a file system without symbolic links; huggingface_hub moves the file there, too
            os.replace(blob, name)
        return name


@dataclass(frozen=True)
class FolderStore:
    """A folder of the user's choice. What the shared cache holds is linked or copied from there."""

    folder: Path
    cache_store: CacheStore

    def find(self, file: HubFile) -> Path | None:
        """Give a file that is here with the right content, or that the cache has.

        Raises:
            OSError: the folder cannot be read or written.
        """
        name = self.folder / file.name
        if name.is_file() and matches(file, name):
            return name
        blob = self.cache_store.find(file)
        if blob is None:
            return None
        name.parent.mkdir(parents=True, exist_ok=True)
        growing = self.partial(file)
        growing.unlink(missing_ok=True)
        try:
            os.link(blob.resolve(), growing)
        except OSError:  # another disk
            shutil.copyfile(blob, growing)
        return self.keep(file)

    def partial(self, file: HubFile) -> Path:
        """Beside the file itself."""
        name = self.folder / file.name
        return name.with_name(f"{name.name}.{file.digest[:12]}{_PARTIAL}")

    def keep(self, file: HubFile) -> Path:
        """Give the file its name; one that had it before is replaced.

        Raises:
            OSError: the folder cannot be written.
        """
        name = self.folder / file.name
        os.replace(self.partial(file), name)
        return name

    def finish(self) -> None:
        """Nothing is left to note: the names say it all."""
