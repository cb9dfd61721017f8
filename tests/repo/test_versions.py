from __future__ import annotations

from longlens.repo.history import advance, new_history
from longlens.repo.versions import CurrentLine, Versions

FIRST = new_history({"a": b"1\n2\n3\n"})


def test_a_line_is_followed_through_several_changes() -> None:
    history = advance(advance(FIRST, {"a": b"0\n1\n2\n3\n"}), {"a": b"0\n1\n3\n"})
    versions = Versions(history.pack("none").pieces)
    assert versions.now(1, 3) == CurrentLine("a", 3, False)
    assert versions.now(1, 2) == CurrentLine("a", 3, True)
    assert versions.tags_of_path("a") == [1, 2, 3]
    assert versions.num_lines(2) == 4


def test_a_renamed_file_keeps_its_lines_under_its_new_path() -> None:
    versions = Versions(advance(FIRST, {"b": b"1\n2\n3\n"}).pack("none").pieces)
    assert versions.now(1, 2) == CurrentLine("b", 2, False)
    assert versions.num_lines(2) == 3
    assert versions.tags_of_path("a") == []


def test_lines_of_a_deleted_file_are_removed() -> None:
    versions = Versions(advance(FIRST, {"b": b"x\n"}).pack("none").pieces)
    assert versions.now(1, 2) == CurrentLine("a", 2, True)
    assert 2 in versions
    assert 3 not in versions
