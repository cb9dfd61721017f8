"""The rules of CONTRIBUTING.md about files: their names, their mirror in tests, what may lie in the repository.

Paths are relative to the repository and written with slashes. Every rule returns its violations as text.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parents[2]

MIB = 1024 * 1024
MOST_TREE_BYTES = 32 * MIB
MOST_FOLDER_BYTES = {"tests/golden": 6 * MIB, "tests/fixtures": 4 * MIB}

EMPTY_NAMES = frozenset({"utils", "util", "core", "common", "helpers", "helper", "misc"})

# Modules of src/longlens without a test of their own, and why.
WITHOUT_MIRROR = {
    "__main__.py": "two lines; tests/test_main.py would only start the command line again",
    "kernels/interface.py": "protocols and records; every implementation is tested against them",
}

# Folders of tests/ that mirror nothing: what holds across floors.
ACROSS_FLOORS = frozenset({"house", "agreement", "golden", "journeys", "fixtures", "training", "benchmarks"})

# Written in pieces, so that this file does not refuse itself.
MACHINE_PATH = re.compile(rb"(?<![\w./~-])/(?:" + b"|".join((b"work", b"home", b"root", b"Users")) + rb")/\w")
UNDONE = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")


def repository_files() -> list[str]:
    """Every file that is tracked, or would be by `git add .`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
    return sorted({name for name in listing.split("\0") if name and (REPOSITORY / name).is_file()})


def text_of(name: str) -> str:
    """The text of a file of the repository; nothing if it is not text."""
    try:
        return (REPOSITORY / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def python_files(files: Iterable[str], folder: str) -> list[str]:
    """Python files below a folder."""
    return [name for name in files if name.startswith(f"{folder}/") and name.endswith(".py")]


def empty_names(files: Iterable[str]) -> list[str]:
    """Refuse modules and packages whose name says nothing about what is in them."""
    return [f"{name}: a name that says nothing" for name in files if EMPTY_NAMES & _words(name)]


def missing_mirrors(files: Iterable[str]) -> list[str]:
    """Refuse a module src/longlens/a/b.py without tests/a/test_b.py."""
    files = list(files)
    found = []
    for name in python_files(files, "src/longlens"):
        module = PurePosixPath(name).relative_to("src/longlens")
        if module.name == "__init__.py" or str(module) in WITHOUT_MIRROR:
            continue
        mirror = f"tests/{module.with_name('test_' + module.name)}"
        if mirror not in files:
            found.append(f"{name}: no {mirror}")
    return found


def stray_tests(files: Iterable[str]) -> list[str]:
    """Refuse a test file beside the mirror: tests/a/test_b.py and test_b_*.py belong to src/longlens/a/b.py."""
    files = list(files)
    modules = {
        str(PurePosixPath(name).relative_to("src/longlens"))[:-3] for name in python_files(files, "src/longlens")
    }
    found = []
    for name in python_files(files, "tests"):
        path = PurePosixPath(name).relative_to("tests")
        if not path.name.startswith("test_") or path.parts[0] in ACROSS_FLOORS:
            continue
        words = path.stem.removeprefix("test_").split("_")
        owners = {str(path.with_name("_".join(words[:count]))) for count in range(1, len(words) + 1)}
        if not owners & modules:
            found.append(f"{name}: mirrors no module of src/longlens")
    return found


def machine_paths(content: bytes) -> list[str]:
    """Refuse paths that exist on one machine only."""
    hits = [(content.count(b"\n", 0, hit.start()) + 1, hit[0].decode()) for hit in MACHINE_PATH.finditer(content)]
    return [f"{line}: {path}" for line, path in hits]


def undone_without_link(content: str) -> list[str]:
    """Refuse a note about work left undone that links to no place where it is tracked."""
    lines = enumerate(content.splitlines(), start=1)
    return [f"{n}: {line.strip()}" for n, line in lines if UNDONE.search(line) and not re.search(r"https?://", line)]


def heavy_tree(sizes: dict[str, int]) -> list[str]:
    """Refuse a working tree above 32 MiB, and golden arrays and fixtures above their shares."""
    limits = {"": MOST_TREE_BYTES} | MOST_FOLDER_BYTES
    found = []
    for folder, limit in limits.items():
        total = sum(size for name, size in sizes.items() if name.startswith(f"{folder}/" if folder else ""))
        if total > limit:
            found.append(f"{folder or 'the working tree'}: {total / MIB:.1f} MiB, at most {limit / MIB:.0f}")
    return found


def broken_links(name: str, content: str, files: Iterable[str]) -> list[str]:
    """Refuse a relative link in a Markdown page that leads to no file of the repository."""
    known = set(files)
    known |= {str(parent) for file in known for parent in PurePosixPath(file).parents}
    found = []
    for target in re.findall(r"\]\(([^)#\s]+)", content):
        if re.match(r"[a-z]+:", target):
            continue
        parts: list[str] = []
        for part in (PurePosixPath(name).parent / target).parts:
            if part == ".." and parts:
                parts.pop()
            elif part != ".":
                parts.append(part)
        if "/".join(parts) not in known:
            found.append(f"{name}: link to {target} leads nowhere")
    return found


def missing_modules(content: str, files: Iterable[str]) -> list[str]:
    """Refuse a page that names a module which src/longlens does not have: `cache/pages.py`, `machine.py`."""
    known = set(files)
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", content)
    return [f"{name}: no such module" for name in named if f"src/longlens/{name}" not in known]


def _words(name: str) -> set[str]:
    path = PurePosixPath(name)
    return {*path.parts[:-1], path.stem} if path.suffix == ".py" else set()
