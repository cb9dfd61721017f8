"""The pack of a repository from one question to the next: the base stays, what happened since is appended."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from longlens.errors import FormatError, UsageError
from longlens.repo.anchors import AnchorStyle
from longlens.repo.file_rules import MOST_FILE_BYTES
from longlens.repo.files import LeftOut, Listing, list_files, read_file
from longlens.repo.history import History, advance, new_history
from longlens.repo.pack import FORMAT_VERSION, Encode, Pack
from longlens.repo.pieces import FileVersion, file_piece
from longlens.repo.selection import CHANGES_SHARE, NO_ROOM, Selection, select
from longlens.repo.store_files import StoredHistory, StoreFiles
from longlens.repo.symbols import is_named, question_names

# A small base is not taken anew for every edit: reading so few tokens again saves nothing.
MOST_CHANGES_OF_A_SMALL_BASE_TOKENS = 1024
# While files are counted, none has its tag yet.
_ANY_TAG = 999


@dataclass(frozen=True)
class PackSettings:
    """What a pack is made with.

    Attributes:
        encode: bytes to token ids, such as `Tokenizer.encode_bytes`.
        tokenizer_fingerprint: another fingerprint means another base.
        budget_tokens: most tokens of base and changes together: the context without question and answer.
        style: which lines get an anchor.
        most_file_bytes: larger files are left out.
    """

    encode: Encode = field(repr=False)
    tokenizer_fingerprint: str
    budget_tokens: int
    style: AnchorStyle = "anchors"
    most_file_bytes: int = MOST_FILE_BYTES

    @property
    def key(self) -> str:
        """What a stored base must have been made with."""
        parts = [FORMAT_VERSION, self.tokenizer_fingerprint, self.style, self.most_file_bytes]
        return json.dumps(parts)


@dataclass(frozen=True)
class UpdatedPack:
    """A repository's pack as it is now, without a question.

    Attributes:
        pack: base and changes.
        ids: token ids of each piece.
        base_tokens: tokens of the base.
        changes_tokens: tokens of the changes.
        left_out: every path that is not in it, and why.
        is_new_base: the base was made now.
        said: what the user should know, one sentence each.
    """

    pack: Pack
    ids: tuple[tuple[int, ...], ...] = field(repr=False)
    base_tokens: int
    changes_tokens: int
    left_out: tuple[LeftOut, ...] = field(repr=False)
    is_new_base: bool
    said: tuple[str, ...]


@dataclass(frozen=True)
class _Tree:
    """The working tree: text files by path, the rest with reasons, and of what nothing can be said now."""

    files: Mapping[str, bytes]
    left_out: tuple[LeftOut, ...]
    unknown: frozenset[str]


def store_folder(cache: Path, root: Path) -> Path:
    """Return the folder in a cache that belongs to one repository, whatever path leads to it."""
    real = os.path.realpath(root)
    return cache / "packs" / hashlib.sha256(os.fsencode(real)).hexdigest()[:24]


class BaseStore:
    """Keeps the pack of one repository.

    Args:
        folder: where it is kept (`store_folder`); None to keep nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._files = None if folder is None else StoreFiles(folder)

    def update(self, root: Path, settings: PackSettings, *, question: bytes = b"") -> UpdatedPack:
        """Compare the working tree with what is stored, append what happened, or make the base anew.

        Args:
            root: the repository.
            settings: what the pack is made with.
            question: names in it decide about a small part of the files, if not all fit.

        Raises:
            UsageError: `root` is no folder, or no file in it can be packed.
        """
        if self._files is None:
            return self._fresh(root, settings, question, [])
        with self._files.locked():
            said: list[str] = []
            stored = None
            try:
                stored = self._files.read()
            except FormatError as error:
                said.append(f"{error.fault}; {error.mend}")
            if stored is not None and stored.key != settings.key:
                said.append("the pack is made anew: it was made with other settings")
                stored = None
            if stored is not None:
                updated = self._continued(root, settings, question, stored)
                if updated is not None:
                    return updated
                said.append("the pack is made anew: the changes outgrew their share, or the room is another")
            return self._fresh(root, settings, question, said)

    def _continued(
        self, root: Path, settings: PackSettings, question: bytes, stored: StoredHistory
    ) -> UpdatedPack | None:
        has_more_room = settings.budget_tokens > stored.budget_tokens * (1 + CHANGES_SHARE)
        if stored.not_chosen and has_more_room:
            return None
        held = stored.history.files()
        tree = _read_tree(root, settings)
        waiting = {path: tree.files[path] for path in stored.not_chosen if path in tree.files and path not in held}
        now = {path: content for path, content in tree.files.items() if path not in waiting}
        unknown = [path for path in held if _is_at_or_below(path, tree.unknown)]
        history = advance(stored.history, now, unknown=unknown)
        if not history.files():
            return None
        counted = _Counted(history, settings)
        if not counted.fits:
            return None
        history, counted = _with_named(history, counted, waiting, question_names(question))
        rest = sorted(path for path in waiting if path not in history.files())
        if history != stored.history and self._files is not None:
            self._files.write(replace(stored, history=history))
        left_out = (*tree.left_out, *(LeftOut(path, NO_ROOM) for path in rest))
        return counted.updated(left_out, is_new_base=False, said=())

    def _fresh(self, root: Path, settings: PackSettings, question: bytes, said: list[str]) -> UpdatedPack:
        tree = _read_tree(root, settings)
        if not tree.files:
            raise _nothing_to_pack(root, tree.left_out)
        selection = _select(tree.files, settings, question)
        if not selection.files:
            raise UsageError(
                f"no file fits into {settings.budget_tokens} tokens", "ask with a larger --context or a shorter answer"
            )
        history = new_history(selection.files)
        not_chosen = frozenset(each.path for each in selection.left_out)
        if self._files is not None:
            self._files.write(StoredHistory(settings.key, history, not_chosen, settings.budget_tokens))
        if not_chosen:
            said.append(f"{len(not_chosen)} of {len(tree.files)} files found no room in the context")
        left_out = (*tree.left_out, *selection.left_out)
        return _Counted(history, settings).updated(left_out, is_new_base=True, said=tuple(said))


class _Counted:
    """A history with its pack and token ids."""

    def __init__(self, history: History, settings: PackSettings) -> None:
        self.settings = settings
        self.pack = history.pack(settings.style)
        self.ids = self.pack.token_ids(settings.encode)
        num_base = len(self.pack.base)
        self.base_tokens = sum(map(len, self.ids[:num_base]))
        self.changes_tokens = sum(map(len, self.ids[num_base:]))

    @property
    def fits(self) -> bool:
        """Whether the changes are within their share, and all within the budget."""
        most = max(self.base_tokens * CHANGES_SHARE, MOST_CHANGES_OF_A_SMALL_BASE_TOKENS)
        return self.changes_tokens <= most and self.base_tokens + self.changes_tokens <= self.settings.budget_tokens

    def updated(self, left_out: tuple[LeftOut, ...], *, is_new_base: bool, said: tuple[str, ...]) -> UpdatedPack:
        """Return the result of an update."""
        ordered = tuple(sorted(left_out, key=lambda each: os.fsencode(each.path)))
        return UpdatedPack(self.pack, self.ids, self.base_tokens, self.changes_tokens, ordered, is_new_base, said)


def _with_named(
    history: History, counted: _Counted, waiting: Mapping[str, bytes], names: frozenset[str]
) -> tuple[History, _Counted]:
    """Append files that a question names and that had no room in the base, as long as the changes' share has some."""
    for path in sorted(waiting, key=os.fsencode):
        if not is_named(path, waiting[path], names):
            continue
        now = {file.path: file.content for file in history.files().values()} | {path: waiting[path]}
        longer = advance(history, now)
        if (count := _Counted(longer, counted.settings)).fits:
            history, counted = longer, count
    return history, counted


def _select(files: Mapping[str, bytes], settings: PackSettings, question: bytes) -> Selection:
    def count(path: str, content: bytes) -> int:
        piece = file_piece(FileVersion(_ANY_TAG, path, content), settings.style, is_new=False)
        return len(settings.encode(piece.data))

    return select(files, int(settings.budget_tokens / (1 + CHANGES_SHARE)), count, question=question)


def _read_tree(root: Path, settings: PackSettings) -> _Tree:
    listing: Listing = list_files(root, most_bytes=settings.most_file_bytes)
    files: dict[str, bytes] = {}
    left_out = list(listing.left_out)
    for found in listing.files:
        content = read_file(root, found.path, most_bytes=settings.most_file_bytes)
        if isinstance(content, LeftOut):
            left_out.append(content)
        else:
            files[found.path] = content
    unknown = frozenset(each.path for each in left_out if each.is_passing)
    return _Tree(files, tuple(left_out), unknown)


def _is_at_or_below(path: str, places: frozenset[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[:depth]) in places for depth in range(1, len(parts) + 1))


def _nothing_to_pack(root: Path, left_out: tuple[LeftOut, ...]) -> UsageError:
    if not left_out:
        return UsageError(f"{root} holds no files", "give a folder that holds text files")
    first = left_out[0]
    return UsageError(
        f"none of the {len(left_out)} files in {root} can be packed; {first.path!r} is left out: {first.reason}",
        "see why with --verbose, or give another folder",
    )
