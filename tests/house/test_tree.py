"""The rules, applied to this repository."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.house import code_rules, tree_rules
from tests.house.tree_rules import REPOSITORY

FILES = tree_rules.repository_files()
SOURCES = tree_rules.python_files(FILES, "src/longlens")
TESTS = tree_rules.python_files(FILES, "tests")


def violations(rule: Callable[[str], list[str]], files: list[str]) -> list[str]:
    return [f"{name}:{found}" for name in files for found in rule((REPOSITORY / name).read_text())]


def outside(*places: str) -> list[str]:
    return [name for name in SOURCES if not name.startswith(tuple(f"src/longlens/{place}" for place in places))]


def test_the_repository_is_seen() -> None:
    assert "src/longlens/errors.py" in SOURCES
    assert "tests/house/test_tree.py" in TESTS


def test_files_are_short() -> None:
    assert violations(code_rules.long_file, SOURCES + TESTS) == []


def test_functions_are_short() -> None:
    assert violations(code_rules.long_functions, SOURCES + TESTS) == []


def test_functions_take_few_parameters() -> None:
    # Kernels have the signature of the device's code; a command has one parameter for each of its options, and so has
    # `longlens.load`.
    assert violations(code_rules.many_parameters, outside("kernels/", "cli/", "chat/facade.py")) == []


def test_late_imports_happen_in_two_places() -> None:
    late = {found.split(":")[0] for found in violations(code_rules.late_imports, SOURCES)}
    commands = {name for name in late if name.startswith("src/longlens/cli/")}
    assert late - commands <= {"src/longlens/__init__.py"}
    assert len(commands) <= 1


@pytest.mark.parametrize("boundary", ["engine/worker.py", "server/"])
def test_a_boundary_catches_everything_at_most_once(boundary: str) -> None:
    inside = [name for name in SOURCES if name not in outside(boundary)]
    assert len(violations(code_rules.blind_excepts, inside)) <= 1


def test_nothing_else_catches_everything() -> None:
    assert violations(code_rules.blind_excepts, outside("engine/worker.py", "server/")) == []


def test_sockets_are_opened_by_hub_server_and_remote_evaluation_only() -> None:
    assert violations(code_rules.network_imports, outside("hub/", "server/", "evaluate/remote.py")) == []


def test_environment_variables_are_read_by_the_command_line_only() -> None:
    assert violations(code_rules.environment_reads, outside("cli/")) == []


def test_modules_have_no_changing_globals() -> None:
    assert violations(code_rules.changing_globals, SOURCES) == []


def test_every_test_can_fail() -> None:
    assert violations(code_rules.tests_without_assert, TESTS) == []


def test_names_say_what_is_inside() -> None:
    assert tree_rules.empty_names(FILES) == []


def test_every_module_has_its_test() -> None:
    assert tree_rules.missing_mirrors(FILES) == []


def test_every_test_has_its_module() -> None:
    assert tree_rules.stray_tests(FILES) == []


def test_exemptions_from_the_mirror_are_for_modules_that_exist() -> None:
    assert [name for name in tree_rules.WITHOUT_MIRROR if f"src/longlens/{name}" not in FILES] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {name: tree_rules.machine_paths((REPOSITORY / name).read_bytes()) for name in FILES}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_undone_work_is_linked() -> None:
    found = {name: tree_rules.undone_without_link(tree_rules.text_of(name)) for name in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_repository_stays_light() -> None:
    assert tree_rules.heavy_tree({name: (REPOSITORY / name).stat().st_size for name in FILES}) == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [name for name in FILES if name.endswith(".md")]
    assert [
        found for name in pages for found in tree_rules.broken_links(name, (REPOSITORY / name).read_text(), FILES)
    ] == []


def test_pages_about_concepts_name_modules_that_exist() -> None:
    pages = [REPOSITORY / name for name in FILES if name.startswith("docs/concepts/")]
    assert [found for page in pages for found in tree_rules.missing_modules(page.read_text(), FILES)] == []
