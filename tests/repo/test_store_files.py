from __future__ import annotations

import json
import multiprocessing
import stat
import time
from pathlib import Path

import pytest

from longlens.errors import FormatError
from longlens.repo.history import advance, new_history
from longlens.repo.store_files import StoredHistory, StoreFiles

FIRST = StoredHistory("key", new_history({"a": b"1\n", "\udcff": b"\xff"}), frozenset({"z"}), 100)


def changed(stored: StoredHistory, **files: bytes) -> StoredHistory:
    return StoredHistory(stored.key, advance(stored.history, files), stored.not_chosen, stored.budget_tokens)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = StoreFiles(tmp_path / "a" / "b")
    with store.locked():
        assert store.read() is None
        for stored in (
            FIRST,
            changed(FIRST, a=b"1\n2\n", b=b"3\n"),
            StoredHistory("other", FIRST.history, frozenset(), 1),
        ):
            store.write(stored)
            assert StoreFiles(tmp_path / "a" / "b").read() == stored


def test_events_are_appended_and_a_new_base_begins_a_new_file(tmp_path: Path) -> None:
    store = StoreFiles(tmp_path)
    with store.locked():
        store.write(FIRST)
        (first,) = tmp_path.glob("contents-*.bin")
        before = first.read_bytes()
        store.write(changed(FIRST, a=b"new\n"))
        assert first.read_bytes().startswith(before)
        store.write(StoredHistory("key", new_history({"a": b"new\n"}), frozenset(), 100))
        (second,) = tmp_path.glob("contents-*.bin")
    assert second != first


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    store = StoreFiles(tmp_path / "a" / "b")
    with store.locked():
        store.write(FIRST)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*")}
    assert modes == {"b": 0o700, "lock": 0o600, "history.json": 0o600, "contents-1.bin": 0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "contents-1.bin").write_bytes(b"1\n"),
        lambda folder: (folder / "contents-1.bin").write_bytes(b"2\n\xff"),
        lambda folder: (folder / "contents-1.bin").unlink(),
        lambda folder: (folder / "history.json").write_bytes(b"{"),
        lambda folder: (folder / "history.json").write_bytes(b"[]"),
        lambda folder: (folder / "history.json").write_bytes(json.dumps({"store_version": 0}).encode()),
    ],
)
def test_a_damaged_store_is_refused_and_can_be_written_anew(tmp_path: Path, damage: object) -> None:
    store = StoreFiles(tmp_path)
    with store.locked():
        store.write(FIRST)
        damage(tmp_path)  # type: ignore[operator]
        with pytest.raises(FormatError, match="damaged"):
            store.read()
        store.write(FIRST)
        assert store.read() == FIRST


def test_what_a_killed_run_left_behind_does_no_harm(tmp_path: Path) -> None:
    store = StoreFiles(tmp_path)
    with store.locked():
        store.write(FIRST)
        with open(tmp_path / "contents-1.bin", "ab") as file:
            file.write(b"half a file")
        (tmp_path / "history.json.new").write_bytes(b"{")
        assert store.read() == FIRST
        store.write(changed(FIRST, a=b"2\n"))
        assert store.read() == changed(FIRST, a=b"2\n")
        assert b"a file" not in (tmp_path / "contents-1.bin").read_bytes()


def _hold(folder: Path, seconds: float) -> None:
    with StoreFiles(folder).locked():
        (folder / "held").touch()
        time.sleep(seconds)
        (folder / "done").touch()


def test_a_second_process_waits(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, 0.5))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with StoreFiles(tmp_path).locked():
        assert (tmp_path / "done").exists()
    holder.join()
