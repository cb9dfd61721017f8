from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from longlens.errors import UsageError
from longlens.repo import files
from longlens.repo.files import LeftOut, Listing, list_files, read_file


def write(root: Path, path: str, content: bytes = b"x\n") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def paths(listing: Listing) -> list[str]:
    return [file.path for file in listing.files]


def reasons(listing: Listing) -> dict[str, str]:
    return {each.path: each.reason for each in listing.left_out}


def test_with_git_what_is_tracked_is_listed_in_the_order_of_bytes(tmp_path: Path) -> None:
    for path in ("b c.py", "a/b.py", "a.py", "ä.py", "new.py"):
        write(tmp_path, path)
    git(tmp_path, "init")
    git(tmp_path, "add", "b c.py", "a/b.py", "a.py", "ä.py")
    listing = list_files(tmp_path)
    assert listing.source == "git"
    assert paths(listing) == ["a.py", "a/b.py", "b c.py", "ä.py"]
    assert "not tracked" in reasons(listing)["new.py"]


def test_a_folder_inside_a_repository_lists_its_own_part(tmp_path: Path) -> None:
    write(tmp_path, "a/b.py")
    write(tmp_path, "c.py")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    assert paths(list_files(tmp_path / "a")) == ["b.py"]


def test_without_git_a_walk_finds_the_same_files(tmp_path: Path) -> None:
    write(tmp_path, ".gitignore", b"*.log\nout/\n")
    for path in (
        "a.py",
        "b/c.py",
        "b/d.log",
        "out/e.py",
        "node_modules/f/g.js",
        ".git/config",
        "sub/.git/x",
        "sub/h.py",
    ):
        write(tmp_path, path)
    listing = list_files(tmp_path)
    assert listing.source == "walk"
    assert paths(listing) == [".gitignore", "a.py", "b/c.py"]
    assert set(reasons(listing)) == {"b/d.log", "out", "node_modules", "sub"}


@pytest.mark.parametrize("has_git", [False, True])
def test_ignore_files_count_always_and_the_longlensignore_even_for_configurations(
    tmp_path: Path, has_git: bool
) -> None:
    write(tmp_path, ".gitignore", b"*.gen\n")
    write(tmp_path, ".longlensignore", b"secret*\npackage.json\n")
    for path in ("a.py", "b.gen", "secret.py", "package.json"):
        write(tmp_path, path)
    if has_git:
        git(tmp_path, "init")
        git(tmp_path, "add", "--force", ".")
    listing = list_files(tmp_path)
    assert paths(listing) == [".gitignore", ".longlensignore", "a.py"]
    assert reasons(listing) == {
        "b.gen": "ignored by .gitignore",
        "package.json": "ignored by .longlensignore",
        "secret.py": "ignored by .longlensignore",
    }


def test_links_pipes_and_submodules_are_never_entered(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(outside, "secret.py")
    git(outside, "init")
    git(outside, "add", ".")
    git(outside, "commit", "-m", "a")
    write(root, "a.py")
    write(root, "d/e.py")
    git(root, "init")
    git(root, "submodule", "add", str(outside), "sub")
    (root / "link.py").symlink_to(outside / "secret.py")
    (root / "inner.py").symlink_to("a.py")
    git(root, "add", ".")
    (root / "d" / "e.py").unlink()
    (root / "d").rmdir()
    (root / "d").symlink_to(outside)
    (root / "d" / "e.py").write_bytes(b"out")
    listing = list_files(root)
    assert paths(listing) == [".gitmodules", "a.py"]
    assert reasons(listing)["link.py"] == "a symbolic link out of the repository"
    assert "not followed" in reasons(listing)["inner.py"]
    assert "below a symbolic link" in reasons(listing)["d/e.py"]
    assert reasons(listing)["sub"] == "a submodule"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    os.mkfifo(tmp_path / "pipe.py")
    assert reasons(list_files(tmp_path)) == {"pipe.py": "not a regular file"}
    assert read_file(tmp_path, "pipe.py") == LeftOut("pipe.py", "not a regular file")


def test_a_file_of_a_gigabyte_is_never_read(tmp_path: Path) -> None:
    with open(tmp_path / "big.txt", "wb") as file:
        file.truncate(1 << 30)
    start = time.perf_counter()
    assert "1.0 GiB" in reasons(list_files(tmp_path))["big.txt"]
    assert isinstance(read_file(tmp_path, "big.txt"), LeftOut)
    assert time.perf_counter() - start < 1


def test_a_tracked_file_that_is_gone_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    write(tmp_path, "b.py")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    (tmp_path / "b.py").unlink()
    assert reasons(list_files(tmp_path)) == {"b.py": "git tracks it, but it is not there"}


def test_bytes_are_read_as_they_are(tmp_path: Path) -> None:
    content = "é\r\n".encode("latin-1") + "世".encode("shift-jis")
    write(tmp_path, "a b.txt", content)
    assert read_file(tmp_path, "a b.txt") == content


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.txt", b"1\n")
    real, calls = os.fstat, []

    def changing(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        calls.append(descriptor)
        if len(calls) in writes_at:
            with open(tmp_path / "a.txt", "ab") as file:
                file.write(b"2\n")
        return status

    monkeypatch.setattr(files.os, "fstat", changing)
    writes_at = {1}
    assert read_file(tmp_path, "a.txt") == b"1\n2\n"
    calls.clear()
    writes_at = {1, 3}
    found = read_file(tmp_path, "a.txt")
    assert isinstance(found, LeftOut)
    assert "changed while it was read" in found.reason
    assert found.is_passing


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    for path in (tmp_path / "none", tmp_path / "a"):
        with pytest.raises(UsageError, match=path.name):
            list_files(path)


@pytest.mark.slow
def test_20000_files_are_listed_and_read_in_seconds(tmp_path: Path) -> None:
    for folder in range(200):
        (tmp_path / f"d{folder}").mkdir()
        for number in range(100):
            (tmp_path / f"d{folder}" / f"f{number}.py").write_bytes(b"def f():\n    pass\n" * 20)
    (tmp_path / ".gitignore").write_bytes(b"\n".join(b"*.x%d" % number for number in range(50)))
    start = time.perf_counter()
    listing = list_files(tmp_path)
    assert len(listing.files) == 20_001
    assert all(isinstance(read_file(tmp_path, file.path), bytes) for file in listing.files)
    assert time.perf_counter() - start < 10
