"""Questions about a repository at a terminal, while the repository changes between them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ask.repositories import make_repository
from tests.cli.terminal import TINY
from tests.journeys.test_chat_journey import CTRL_C, Terminal

PACK = r"pack: (\d+) files, base (\d+) tokens \((new|kept)\), (\d+) changes (\d+) tokens"
READ = r"prompt (\d+) tokens, 0 cached, (\d+) read"
ENDLESS = ("-l", "313-inf", "-l", "320-inf", "-l", "322-inf", "-n", "3000")


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def ask(opened: list[Terminal], root: Path, *words: str) -> Terminal:
    cache = str(root.parent / "cache")
    terminal = Terminal("ask", "-m", TINY, "--temp", "0", "--cache-dir", cache, *words, str(root), "where is focus?")
    opened.append(terminal)
    return terminal


def whole_answer(opened: list[Terminal], root: Path) -> tuple[re.Match[str], re.Match[str]]:
    """One question to its end: what was packed, and what was read."""
    terminal = ask(opened, root, "-c", "2048", "-n", "8")
    packed = terminal.wait_for(PACK)
    terminal.wait_for("looked at:")
    read = terminal.wait_for(READ)
    assert terminal.leave() == 0
    return packed, read


def test_each_change_of_the_repository_is_appended_and_the_base_stays(opened: list[Terminal], tmp_path: Path) -> None:
    root = make_repository(tmp_path / "my lens é")
    packed, read = whole_answer(opened, root)
    base, prompt = packed[2], int(read[1])
    assert (packed[3], packed[4]) == ("new", "0")

    def edit() -> None:
        (root / "src/lens.py").write_text("def focus(distance):\n    return 2 / distance\n\n\nclass Lens:\n    pass\n")

    def add() -> None:
        (root / "src/mirror.py").write_text("def reflect():\n    pass\n")

    def delete() -> None:
        (root / "README.md").unlink()

    def rename() -> None:
        os.rename(root / "src/light.py", root / "src/lamp.py")

    for number, change in enumerate((edit, add, delete, rename), start=1):
        change()
        packed, read = whole_answer(opened, root)
        assert (packed[2], packed[3], packed[4]) == (base, "kept", str(number)), change.__name__
        assert int(read[1]) == prompt + int(packed[5])


def test_ctrl_c_in_decode_ends_with_what_is_there_and_130(opened: list[Terminal], tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repository")
    terminal = ask(opened, root, "-c", "4096", *ENDLESS)
    terminal.wait_for("before ")
    terminal.wait_for(r"prefill\)\s+\S")
    terminal.type(CTRL_C)
    terminal.wait_for("cancelled")
    assert terminal.leave() == 130


def test_ctrl_c_in_prefill_ends_with_130(opened: list[Terminal], tmp_path: Path) -> None:
    lines = "".join(f"def function_{number}(x):\n    return x * {number}\n\n\n" for number in range(40))
    root = make_repository(tmp_path / "repository", {"long.py": lines})
    terminal = ask(opened, root, "-c", "4096", "-n", "16", "--chunk-tokens", "8")
    terminal.wait_for("before prefill")
    terminal.type(CTRL_C)
    terminal.wait_for("answer 0 tokens; cancelled")
    assert terminal.leave() == 130
