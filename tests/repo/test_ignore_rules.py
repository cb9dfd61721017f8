from __future__ import annotations

from pathlib import Path

from longlens.repo.ignore_rules import IgnoreRules


def rules(root: Path, **files: str) -> IgnoreRules:
    for folder, text in files.items():
        (root / folder.strip("_")).mkdir(exist_ok=True)
        (root / folder.strip("_") / ".gitignore").write_text(text)
    return IgnoreRules(root, ".gitignore")


def test_a_pattern_holds_below_its_folder(tmp_path: Path) -> None:
    found = rules(tmp_path, a="*.log\n/x\n")
    assert found.ignores("a/b/c.log")
    assert found.ignores("a/x")
    assert not found.ignores("a/b/x")
    assert not found.ignores("c.log")


def test_a_deeper_file_has_the_last_word(tmp_path: Path) -> None:
    found = rules(tmp_path, _="*.log\n", a="!keep.log\n")
    assert not found.ignores("a/keep.log")
    assert found.ignores("keep.log")


def test_what_lies_in_an_ignored_folder_is_ignored(tmp_path: Path) -> None:
    found = rules(tmp_path, _="out/\n", a="")
    assert found.ignores("a/out/b/c.py")
    assert not found.ignores("out")
    assert found.ignores("out", is_folder=True)
    assert found.ignores_here("out", is_folder=True)


def test_a_missing_or_senseless_file_ignores_nothing(tmp_path: Path) -> None:
    assert not IgnoreRules(tmp_path, ".gitignore").ignores("a")
    assert not rules(tmp_path, _="!\n/\n\n# a\n").ignores("a")
    assert IgnoreRules(tmp_path, ".gitignore").name == ".gitignore"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "all").write_text("*\n")
    (tmp_path / ".gitignore").symlink_to("all")
    assert not IgnoreRules(tmp_path, ".gitignore").ignores("a")
