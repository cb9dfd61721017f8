from __future__ import annotations

import os
from pathlib import Path

import pytest

from longlens.cli.chat_attachments import Attachments
from longlens.errors import CapacityError, UsageError


def attachments(room: int = 1000) -> Attachments:
    return Attachments(count_tokens=lambda text: len(text.split()), room_tokens=lambda: room)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "b.py").write_text("second")
    (tmp_path / "src" / "a b.py").write_text("first")
    (tmp_path / "src" / "deep" / "c.py").write_text("third")
    (tmp_path / "src" / "picture").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "src" / "latin").write_bytes(b"caf\xe9")
    for hidden in (".git", "node_modules"):
        (tmp_path / "src" / hidden).mkdir()
        (tmp_path / "src" / hidden / "config").write_text("hidden")
    (tmp_path / "outside.py").write_text("outside")
    (tmp_path / "src" / "link.py").symlink_to(tmp_path / "outside.py")
    return tmp_path / "src"


def test_a_file_goes_before_the_message_under_its_name(folder: Path) -> None:
    waiting = attachments()
    said = waiting.add_file(str(folder / "a b.py"))
    assert "6 tokens go before the next message" in said
    assert waiting.before("why?") == f"--- File: {folder}/a b.py ---\nfirst\n\nwhy?"
    waiting.clear()
    assert (len(waiting), waiting.num_tokens, waiting.before("why?")) == (0, 0, "why?")


def test_it_is_known_where_each_text_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {"ü.py": "--- File: a ---\r\n🙂\n", "empty": "", "b": "é"}
    waiting = attachments()
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode())
        waiting.add(name)
    whole = waiting.before("--- File: c ---\n")
    files = list(waiting.files())
    assert [file.name for file in files] == list(texts)
    for file, text in zip(files, texts.values(), strict=True):
        assert whole[file.start : file.body_start] == f"--- File: {file.name} ---\n"
        assert whole[file.body_start : file.body_end] == text
    waiting.clear()
    assert list(waiting.files()) == []


def test_a_folder_gives_its_text_files_in_order_and_says_what_is_left_out(folder: Path) -> None:
    waiting = attachments()
    said = waiting.add(str(folder))
    assert "3 text files" in said
    assert "1 left out: is not text" in said
    assert "1 left out: is not UTF-8" in said
    text = waiting.before("why?")
    assert [word for word in text.split() if word in ("first", "second", "third")] == ["first", "second", "third"]
    assert "hidden" not in text
    assert "outside" not in text


def test_a_pattern_gives_what_matches(folder: Path) -> None:
    waiting = attachments()
    waiting.add_matches(f"{folder}/**/*.py")
    assert len(waiting) == 4
    with pytest.raises(UsageError, match="leads to no text file"):
        waiting.add_matches(f"{folder}/*.nothing")


def test_more_than_the_context_has_room_for_is_refused_whole(folder: Path) -> None:
    waiting = attachments(room=15)
    waiting.add(str(folder / "b.py"))
    before = waiting.num_tokens
    with pytest.raises(CapacityError, match="nothing was added"):
        waiting.add(str(folder))
    assert (len(waiting), waiting.num_tokens) == (1, before)


def test_a_file_that_cannot_fit_is_not_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="too long"):
        attachments().add(str(huge))


@pytest.mark.parametrize(
    ("name", "fault"), [("nothing", "cannot be read"), ("pipe", "not a file"), ("picture", "text")]
)
def test_what_is_no_text_file_is_refused_by_name(folder: Path, name: str, fault: str) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(UsageError, match=fault) as error:
        attachments().add_file(str(folder / name))
    assert name in error.value.fault
