from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from longlens.bench.provenance import checkout_commit


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a checkout of its own, with one commit."""
    folder = tmp_path / "src/longlens"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return folder


def test_a_clean_checkout_is_its_commit(package: Path) -> None:
    commit = checkout_commit(package)
    assert commit is not None
    assert len(commit) == 12
    assert set(commit) <= set("0123456789abcdef")


def test_a_changed_file_makes_it_dirty(package: Path) -> None:
    clean = checkout_commit(package)
    (package / "a.py").write_text("x = 2\n")
    assert checkout_commit(package) == f"{clean}-dirty"


def test_a_package_inside_another_projects_repository_has_no_commit(package: Path) -> None:
    installed = package.parent / "venv/site-packages/longlens"
    installed.mkdir(parents=True)
    assert checkout_commit(installed) is None


def test_a_package_outside_of_any_repository_has_no_commit(tmp_path: Path) -> None:
    folder = tmp_path / "site-packages/longlens"
    folder.mkdir(parents=True)
    assert checkout_commit(folder) is None
