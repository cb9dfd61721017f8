"""What a pack holds of a repository: files at one time, and what happened to them since.

Nothing here touches a disk: states become states, and a state becomes a pack, the same bytes every time.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from longlens.repo.anchors import AnchorStyle, cut_lines
from longlens.repo.line_match import Run, match_lines
from longlens.repo.pack import Pack
from longlens.repo.pieces import FileVersion, Piece, changed_piece, deleted_piece, file_piece, renamed_piece

EventKind = Literal["new", "changed", "renamed", "deleted"]
EVENT_KINDS: tuple[str, ...] = get_args(EventKind)


@dataclass(frozen=True)
class Event:
    """What happened to a file.

    Attributes:
        kind: what.
        version: the file after it; of a deleted file the last version.
        from_tag: the tag of the version before; 0 for a new file.
        runs: of a change, the lines that stayed. They are kept, so that a pack never depends on how they were found.
    """

    kind: EventKind
    version: FileVersion
    from_tag: int = 0
    runs: tuple[Run, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class History:
    """A base and the events since, in order."""

    base: tuple[FileVersion, ...]
    events: tuple[Event, ...] = ()

    def files(self) -> dict[str, FileVersion]:
        """Return the files as the last event left them, by path."""
        found = {version.path: version for version in self.base}
        path_of = {version.tag: version.path for version in self.base}
        for event in self.events:
            if event.from_tag:
                del found[path_of[event.from_tag]]
            if event.kind != "deleted":
                found[event.version.path] = event.version
                path_of[event.version.tag] = event.version.path
        return found

    def next_tag(self) -> int:
        """Return the first tag that was never given."""
        tags = [version.tag for version in self.base] + [event.version.tag for event in self.events]
        return max(tags, default=0) + 1

    def pack(self, style: AnchorStyle) -> Pack:
        """Write the history as a pack without a question."""
        base = tuple(file_piece(version, style, is_new=False) for version in self.base)
        before = {version.tag: version for version in self.base} | {
            event.version.tag: event.version for event in self.events
        }
        changes = tuple(_piece(event, before.get(event.from_tag), style) for event in self.events)
        return Pack(base, changes)


def new_history(files: Mapping[str, bytes]) -> History:
    """Take files as the base of a history: tags from 1, in ascending order of the paths' bytes."""
    ordered = sorted(files, key=os.fsencode)
    return History(tuple(FileVersion(tag, path, files[path]) for tag, path in enumerate(ordered, start=1)))


def advance(history: History, now: Mapping[str, bytes], *, unknown: Collection[str] = ()) -> History:
    """Append what happened between a history's last state and now.

    Renames (a file gone, another there with its bytes) come first, then changes, new files and deletions, each in
    ascending order of the paths' bytes. A change of nothing but the last newline is none.

    Args:
        history: what the pack holds.
        now: the files now, by path.
        unknown: paths of which nothing can be said now; what the pack holds of them stays.
    """
    held = history.files()
    tag = history.next_tag()
    gone = {path for path in held if path not in now and path not in unknown}
    come = {path for path in now if path not in held}
    events: list[Event] = []
    for old, new in _renames({path: held[path].content for path in gone}, {path: now[path] for path in come}):
        version = FileVersion(tag + len(events), new, now[new])
        events.append(Event("renamed", version, held[old].tag))
        gone.remove(old)
        come.remove(new)
    for path in _ordered(path for path in held if path in now and held[path].content != now[path]):
        before, after = cut_lines(held[path].content), cut_lines(now[path])
        if before != after:
            version = FileVersion(tag + len(events), path, now[path])
            events.append(Event("changed", version, held[path].tag, match_lines(before, after)))
    for path in _ordered(come):
        events.append(Event("new", FileVersion(tag + len(events), path, now[path])))
    events += [Event("deleted", held[path], held[path].tag) for path in _ordered(gone)]
    return replace(history, events=(*history.events, *events))


def _renames(gone: Mapping[str, bytes], come: Mapping[str, bytes]) -> list[tuple[str, str]]:
    waiting: dict[bytes, list[str]] = {}
    for path in sorted(gone, key=os.fsencode, reverse=True):
        waiting.setdefault(gone[path], []).append(path)
    found = []
    for path in _ordered(come):
        if come[path] and waiting.get(come[path]):
            found.append((waiting[come[path]].pop(), path))
    return found


def _ordered(paths: Iterable[str]) -> list[str]:
    return sorted(paths, key=os.fsencode)


def _piece(event: Event, before: FileVersion | None, style: AnchorStyle) -> Piece:
    version = event.version
    if event.kind == "new" or before is None:
        return file_piece(version, style, is_new=True)
    if event.kind == "changed":
        return changed_piece(before, version, event.runs, style)
    if event.kind == "renamed":
        return renamed_piece(version.path, version.tag, event.from_tag)
    return deleted_piece(version.path, version.tag)
