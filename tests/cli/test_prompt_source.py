from __future__ import annotations

from pathlib import Path

import pytest

from longlens.cli.prompt_source import read_prompt
from longlens.errors import ModelNotFoundError, UsageError


def test_the_command_lines_text_is_taken_as_it_is() -> None:
    assert read_prompt(" a\\n", None) == " a\\n"


def test_a_files_text_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes("é\r\n".encode())
    assert read_prompt(None, str(tmp_path / "p")) == "é\r\n"


def test_a_folder_is_no_prompt(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="cannot be read"):
        read_prompt(None, str(tmp_path))


def test_neither_and_both_are_wrong_usage() -> None:
    for pair in ((None, None), ("a", "b")):
        with pytest.raises(UsageError, match="once"):
            read_prompt(*pair)
