"""A history on disk: written whole or not at all, private to its owner, checked when it is read.

A folder holds `lock`, `history.json` and one `contents-N.bin`. The JSON file names every file's bytes in the contents
by place, length and SHA-256. New bytes are appended before the JSON file that names them is put in place, so that a
process killed at any time leaves the old state or the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from longlens.errors import FormatError
from longlens.repo.history import EVENT_KINDS, Event, EventKind, History
from longlens.repo.line_match import Run
from longlens.repo.pieces import FileVersion

_STORE_VERSION = 1
_MANIFEST = "history.json"


@dataclass(frozen=True)
class StoredHistory:
    """What a store keeps.

    Attributes:
        key: what the base was made with; another key means another base.
        history: base and events.
        not_chosen: paths that had no room when the base was made.
        budget_tokens: tokens that base and changes could have then.
    """

    key: str
    history: History
    not_chosen: frozenset[str]
    budget_tokens: int


class StoreFiles:
    """The files of one store; use them under `locked`.

    Args:
        folder: made if it is not there, readable by its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process out; the lock ends with the process, however it ends."""
        for missing in [*reversed([each for each in self._folder.parents if not each.exists()]), self._folder]:
            missing.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> StoredHistory | None:
        """Return what is stored, or None if nothing is.

        Raises:
            FormatError: the store is damaged or of another version.
        """
        try:
            text = (self._folder / _MANIFEST).read_bytes()
        except FileNotFoundError:
            return None
        try:
            record = json.loads(text)
            if record["store_version"] != _STORE_VERSION:
                raise ValueError(f"store version {record['store_version']}")
            contents = (self._folder / record["contents"]).read_bytes()
            return _stored(record, contents)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError) as error:
            raise FormatError(
                f"the stored pack in {self._folder} is damaged ({type(error).__name__}: {error})", "it is made anew"
            ) from error

    def write(self, stored: StoredHistory) -> None:
        """Put a history in place of the one that is stored; bytes that are there already are not written again."""
        old = self._old_record()
        name = str(old.get("contents", "")) if old.get("key") == stored.key else ""
        known: dict[str, list[int]] = {}
        start = 0
        if name and _is_base_of(old, stored):
            known, start = _known_places(old)
        else:
            name = f"contents-{int(old.get('generation', 0)) + 1}.bin"
        contents, places = _places(stored, known, start)
        self._write_contents(name, start, contents)
        generation = int(name.removeprefix("contents-").removesuffix(".bin"))
        record = _record(stored, places) | {"generation": generation, "contents": name}
        self._replace(_MANIFEST, json.dumps(record).encode())
        for other in self._folder.glob("contents-*.bin"):
            if other.name != name:
                other.unlink(missing_ok=True)

    def _old_record(self) -> dict[str, Any]:
        try:
            record = json.loads((self._folder / _MANIFEST).read_bytes())
            self.read()
        except (OSError, ValueError, RecursionError, FormatError):
            taken = [
                int(each.stem.split("-")[1]) for each in self._folder.glob("contents-*.bin") if each.stem[9:].isdigit()
            ]
            return {"generation": max(taken, default=0)}
        return cast("dict[str, Any]", record)

    def _write_contents(self, name: str, start: int, contents: bytes) -> None:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "r+b") as file:
            # What a killed run left behind the known end is not named by anything.
            file.truncate(start)
            file.seek(start)
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())

    def _replace(self, name: str, data: bytes) -> None:
        temporary = self._folder / f"{name}.new"
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / name)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _versions(stored: StoredHistory) -> Iterator[FileVersion]:
    yield from stored.history.base
    yield from (event.version for event in stored.history.events)


def _is_base_of(record: Mapping[str, Any], stored: StoredHistory) -> bool:
    base = [[version.tag, version.path, _digest(version.content)] for version in stored.history.base]
    return base == [[tag, path, digest] for tag, path, digest in record["base"]]


def _known_places(record: Mapping[str, Any]) -> tuple[dict[str, list[int]], int]:
    known = {digest: list(place) for digest, place in record["places"].items()}
    return known, max((place[0] + place[1] for place in known.values()), default=0)


def _places(stored: StoredHistory, known: dict[str, list[int]], start: int) -> tuple[bytes, dict[str, list[int]]]:
    places, parts = dict(known), []
    for version in _versions(stored):
        digest = _digest(version.content)
        if digest not in places:
            places[digest] = [start, len(version.content)]
            parts.append(version.content)
            start += len(version.content)
    return b"".join(parts), places


def _record(stored: StoredHistory, places: dict[str, list[int]]) -> dict[str, Any]:
    return {
        "store_version": _STORE_VERSION,
        "key": stored.key,
        "budget_tokens": stored.budget_tokens,
        "not_chosen": sorted(stored.not_chosen),
        "base": [[version.tag, version.path, _digest(version.content)] for version in stored.history.base],
        "events": [
            [
                event.kind,
                event.version.tag,
                event.version.path,
                _digest(event.version.content),
                event.from_tag,
                event.runs,
            ]
            for event in stored.history.events
        ],
        "places": places,
    }


def _stored(record: Mapping[str, Any], contents: bytes) -> StoredHistory:
    of_digest = {digest: contents[start : start + size] for digest, (start, size) in record["places"].items()}
    for digest, content in of_digest.items():
        if _digest(content) != digest:
            raise ValueError("a file's bytes are not what they were")
    base = tuple(FileVersion(int(tag), str(path), of_digest[digest]) for tag, path, digest in record["base"])
    events = []
    for kind, tag, path, digest, from_tag, runs in record["events"]:
        if kind not in EVENT_KINDS:
            raise ValueError(f"an event of the kind {kind!r}")
        version = FileVersion(int(tag), str(path), of_digest[digest])
        shared = tuple(Run(*map(int, run)) for run in runs)
        events.append(Event(cast("EventKind", kind), version, int(from_tag), shared))
    history = History(base, tuple(events))
    history.files()
    not_chosen = frozenset(map(str, record["not_chosen"]))
    return StoredHistory(str(record["key"]), history, not_chosen, int(record["budget_tokens"]))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
