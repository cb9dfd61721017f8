from __future__ import annotations

from pathlib import Path

import pytest

from longlens.cli.write_file import write_whole
from longlens.errors import UsageError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    file.write_text("old")
    write_whole(file, "new")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_in_the_way_is_a_fault_and_leaves_no_rest(tmp_path: Path) -> None:
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_whole(tmp_path / "a.svg", "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.svg"]
