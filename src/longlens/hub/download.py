"""`pull`: a repository's model becomes files on this machine, each of them once and whole."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longlens.hub.faults import disk_fault, no_room
from longlens.hub.listing import HubAccess, HubFile, Listing, list_repository
from longlens.hub.reference import HubReference
from longlens.hub.selection import Selection, choose_files, choose_model
from longlens.hub.stores import CacheStore, FolderStore, Store
from longlens.hub.transfer import Watcher, fetch_file


@dataclass(frozen=True)
class Wanted:
    """What is to be on this machine afterwards.

    Attributes:
        reference: repository, and quantisation if one was named.
        files: names of files; empty for the model that the reference means.
        folder: where to; None is the shared cache.
    """

    reference: HubReference
    files: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True)
class PulledFile:
    """One file of the result; `was_here` says that nothing was downloaded for it."""

    name: str
    path: Path
    num_bytes: int
    was_here: bool


@dataclass(frozen=True)
class Pulled:
    """What `pull` did.

    Attributes:
        listing: the repository at the commit that was pulled.
        entries: what to open: a file (of a split model, its first shard) or a folder.
        files: every file, in the order in which they came.
        note: a choice that was made for the user, or None.
    """

    listing: Listing
    entries: tuple[Path, ...]
    files: tuple[PulledFile, ...]
    note: str | None

    @property
    def downloaded_bytes(self) -> int:
        """Bytes of the files that were not here before."""
        return sum(file.num_bytes for file in self.files if not file.was_here)


def pull(wanted: Wanted, access: HubAccess, watcher: Watcher) -> Pulled:
    """Bring a model's files to this machine.

    Weights come last, so that a model whose weights are whole is whole.

    Raises:
        LonglensError: the hub, the network or the disk does not allow it; what has arrived is kept for the next call.
        UsageError: the request fits several models.
    """
    listing = list_repository(wanted.reference.repository, access)
    selection = _select(listing, wanted)
    by_name = {file.name: file for file in listing.files}
    files = [by_name[name] for name in selection.files]
    cache_store = CacheStore(access.cache, listing)
    store: Store = cache_store if wanted.folder is None else FolderStore(wanted.folder, cache_store)
    try:
        pulled = _bring(files, listing, store, access, watcher)
        store.finish()
    except OSError as error:
        raise disk_fault(error, store.folder) from None
    entries = tuple(store.folder / entry for entry in selection.entries)
    return Pulled(listing, entries, pulled, selection.note)


def _select(listing: Listing, wanted: Wanted) -> Selection:
    names = [file.name for file in listing.files]
    if wanted.files:
        return choose_files(names, listing.repository, wanted.files)
    return choose_model(names, listing.repository, wanted.reference.quant)


def _bring(
    files: Sequence[HubFile], listing: Listing, store: Store, access: HubAccess, watcher: Watcher
) -> tuple[PulledFile, ...]:
    here = {file.name: store.find(file) for file in files}
    missing = [file for file in files if here[file.name] is None]
    to_come = sum(max(0, file.num_bytes - _size(store.partial(file))) for file in missing)
    _check_room(to_come, store.folder)
    watcher.start(len(missing), to_come)
    pulled = []
    for file in files:
        path = here[file.name]
        if path is None:
            fetch_file(listing.url(file, access.endpoint), file, store.partial(file), access, watcher)
        pulled.append(PulledFile(file.name, path or store.keep(file), file.num_bytes, was_here=path is not None))
    return tuple(pulled)


def _check_room(needed_bytes: int, folder: Path) -> None:
    """Refuse a download that the disk cannot take.

    Raises:
        CapacityError: it does not fit.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed_bytes > free:
        raise no_room(needed_bytes, free, existing)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
