from __future__ import annotations

from pathlib import Path

import pytest

from longlens.cli.data_folder import cache_folder


def test_the_command_lines_word_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder(Path("here")) == Path("here")
    assert cache_folder(None) == Path("/elsewhere/longlens")


def test_without_either_it_is_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / ".cache" / "longlens"
