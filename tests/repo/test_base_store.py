from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longlens.errors import UsageError
from longlens.repo import base_store
from longlens.repo.base_store import BaseStore, PackSettings, UpdatedPack, store_folder
from longlens.repo.files import LeftOut

# A byte is a token here.
SETTINGS = PackSettings(encode=list, tokenizer_fingerprint="bytes", budget_tokens=100_000)


class World:
    """A repository of ten files, and its store."""

    def __init__(self, folder: Path, num_files: int = 10) -> None:
        self.root = folder / "a repository"
        self.cache = folder / "cache"
        self.root.mkdir()
        for number in range(num_files):
            self.write(f"f{number}.py", b"".join(b"line %d of %d\n" % (line, number) for line in range(100)))

    def write(self, path: str, content: bytes) -> None:
        (self.root / path).write_bytes(content)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def update(self, settings: PackSettings = SETTINGS, question: bytes = b"") -> UpdatedPack:
        return BaseStore(store_folder(self.cache, self.root)).update(self.root, settings, question=question)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def appended(before: UpdatedPack, after: UpdatedPack) -> str:
    assert after.pack.user_bytes.startswith(before.pack.user_bytes)
    assert after.pack.base == before.pack.base
    assert not after.is_new_base
    return after.pack.user_bytes[len(before.pack.user_bytes) :].decode()


def test_nothing_is_appended_when_nothing_happened(world: World) -> None:
    first = world.update()
    assert first.is_new_base
    assert appended(first, world.update()) == ""


def test_an_edit_appends_its_diff(world: World) -> None:
    first = world.update()
    world.write("f3.py", world.read("f3.py").replace(b"line 7 ", b"row 7 "))
    second = world.update()
    assert appended(first, second).startswith("§11 f3.py changed from 4\n@@ -5,7 +5,7 @@\n")
    assert second.changes_tokens == len(second.pack.user_bytes) - len(first.pack.user_bytes)
    world.write("f3.py", world.read("f3.py").replace(b"line 50 ", b"row 50 "))
    assert appended(second, world.update()).startswith("§12 f3.py changed from 11\n@@ -48,7 +48,7 @@\n")


def test_a_new_file_is_appended_whole(world: World) -> None:
    first = world.update()
    world.write("new.py", b"def g():\n    pass\n")
    assert appended(first, world.update()) == "§11 new.py new\ndef g(): §11:1\n    pass\n"


def test_a_deletion_and_a_rename_are_one_line_each(world: World) -> None:
    first = world.update()
    (world.root / "f1.py").unlink()
    second = world.update()
    assert appended(first, second) == "§2 f1.py deleted\n"
    (world.root / "f2.py").rename(world.root / "g.py")
    assert appended(second, world.update()) == "§11 g.py renamed from 3\n"


def test_the_base_is_made_anew_when_changes_exceed_a_fifth(world: World) -> None:
    first = world.update()
    world.write("new.py", b"x\n" * (first.base_tokens // 22))
    appended(first, world.update())
    world.write("new2.py", b"x\n" * (first.base_tokens // 22))
    third = world.update()
    assert third.is_new_base
    assert third.changes_tokens == 0
    assert any("outgrew" in each for each in third.said)


def test_a_small_base_is_not_made_anew_for_every_edit(tmp_path: Path) -> None:
    world = World(tmp_path, num_files=0)
    world.write("a.py", b"1\n")
    first = world.update()
    world.write("b.py", b"x\n" * 400)
    appended(first, world.update())


@pytest.mark.parametrize("change", [{"style": "none"}, {"tokenizer_fingerprint": "other"}, {"most_file_bytes": 10_000}])
def test_other_settings_make_another_base(world: World, change: dict[str, object]) -> None:
    world.update()
    second = world.update(replace(SETTINGS, **change))  # type: ignore[arg-type]
    assert second.is_new_base
    assert any("settings" in each for each in second.said)


def test_a_damaged_store_is_said_and_made_anew(world: World) -> None:
    first = world.update()
    (store_folder(world.cache, world.root) / "history.json").write_bytes(b"{}")
    second = world.update()
    assert second.is_new_base
    assert any("damaged" in each for each in second.said)
    assert second.pack == first.pack


def test_without_a_folder_nothing_is_kept(world: World) -> None:
    assert BaseStore(None).update(world.root, SETTINGS).pack == world.update().pack
    assert BaseStore(None).update(world.root, SETTINGS).is_new_base


def test_files_without_room_stay_out_until_a_question_names_one(world: World) -> None:
    small = replace(SETTINGS, budget_tokens=10_000)
    first = world.update(small)
    missing = [each.path for each in first.left_out]
    assert missing
    assert first.base_tokens <= 10_000 / 1.2
    assert any("no room" in each for each in first.said)
    assert appended(first, world.update(small)) == ""
    named = appended(first, world.update(small, question=f"what is in {missing[0]}?".encode()))
    assert f"§{len(first.pack.base) + 1} {missing[0]} new\n" in named or not named


def test_more_room_brings_a_base_with_more_files(world: World) -> None:
    first = world.update(replace(SETTINGS, budget_tokens=10_000))
    second = world.update()
    assert len(second.pack.base) > len(first.pack.base)
    assert second.left_out == ()


def test_a_file_that_cannot_be_read_now_stays_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.update()
    real = base_store.read_file

    def failing(root: Path, path: str, **limits: int) -> bytes | LeftOut:
        return LeftOut(path, "busy", is_passing=True) if path == "f1.py" else real(root, path, **limits)

    monkeypatch.setattr(base_store, "read_file", failing)
    assert appended(first, world.update()) == ""


def test_a_folder_without_a_readable_file_is_refused_with_a_mend(tmp_path: Path) -> None:
    world = World(tmp_path, num_files=0)
    with pytest.raises(UsageError, match="no files"):
        world.update()
    world.write("a.png", b"")
    with pytest.raises(UsageError, match="binary") as caught:
        world.update()
    assert caught.value.mend


def test_a_context_without_room_for_any_file_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match="fits"):
        world.update(replace(SETTINGS, budget_tokens=10))


def test_one_repository_has_one_folder_whatever_path_leads_to_it(world: World) -> None:
    (world.root.parent / "link").symlink_to(world.root)
    assert store_folder(world.cache, world.root.parent / "link") == store_folder(world.cache, world.root)
    assert store_folder(world.cache, world.root.parent) != store_folder(world.cache, world.root)
