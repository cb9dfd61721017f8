"""Every rule about files refuses what it is there to refuse, and lets pass what is right."""

from __future__ import annotations

from tests.house import tree_rules


def test_a_module_named_utils_is_refused_as_file_and_as_folder() -> None:
    files = ["src/longlens/utils.py", "src/longlens/core/pages.py", "tests/helpers.py"]
    assert len(tree_rules.empty_names(files)) == 3


def test_a_name_that_contains_an_empty_word_is_allowed() -> None:
    assert tree_rules.empty_names(["src/longlens/core_count.py", "docs/common.md"]) == []


def test_a_module_without_a_test_is_refused() -> None:
    assert tree_rules.missing_mirrors(["src/longlens/cache/pages.py", "tests/test_pages.py"]) == [
        "src/longlens/cache/pages.py: no tests/cache/test_pages.py"
    ]


def test_a_module_with_its_test_a_package_file_and_an_exempt_module_are_allowed() -> None:
    files = [
        "src/longlens/errors.py",
        "tests/test_errors.py",
        "src/longlens/cache/__init__.py",
        "src/longlens/kernels/interface.py",
    ]
    assert tree_rules.missing_mirrors(files) == []


def test_a_test_of_no_module_is_refused() -> None:
    files = ["src/longlens/cache/pages.py", "tests/cache/test_forking.py", "tests/test_pages.py"]
    assert len(tree_rules.stray_tests(files)) == 2


def test_a_module_may_have_several_test_files() -> None:
    files = ["src/longlens/cache/page_file.py", "tests/cache/test_page_file.py", "tests/cache/test_page_file_damage.py"]
    assert tree_rules.stray_tests(files) == []


def test_tests_across_floors_mirror_nothing() -> None:
    assert tree_rules.stray_tests(["tests/house/test_tree.py", "tests/golden/test_glm.py", "tests/conftest.py"]) == []


def test_a_path_of_one_machine_is_refused_with_its_line() -> None:
    assert tree_rules.machine_paths(b"a\nb = '/" + b"home/me/model'") == ["2: /" + "home/m"]
    assert len(tree_rules.machine_paths(b"/" + b"work/x and \x00\xff /" + b"root/y")) == 2


def test_paths_of_the_repository_and_of_the_web_are_allowed() -> None:
    assert tree_rules.machine_paths(b"docs/home/page, https://example.org/work/1, ~/work/x, /etc/hosts") == []


def test_undone_work_needs_a_link() -> None:
    note = "# TO" + "DO: later"
    assert tree_rules.undone_without_link(f"x = 1\n{note}") == [f"2: {note}"]
    assert tree_rules.undone_without_link(f"{note}, https://example.org/1") == []


def test_a_heavy_tree_and_heavy_golden_arrays_are_refused() -> None:
    mib = tree_rules.MIB
    assert tree_rules.heavy_tree({"a": 20 * mib, "b": 12 * mib, "tests/golden/a.npz": 0}) == []
    assert len(tree_rules.heavy_tree({"a": 20 * mib, "b": 12 * mib + 1})) == 1
    assert len(tree_rules.heavy_tree({"tests/golden/a.npz": 6 * mib + 1})) == 1


def test_a_link_that_leads_nowhere_is_refused() -> None:
    page = "[a](../b.md) [c](c.md#part) [web](https://example.org) [here](#part) [folder](sub)"
    files = ["docs/x/page.md", "docs/b.md", "docs/x/sub/d.md"]
    assert tree_rules.broken_links("docs/x/page.md", page, files) == ["docs/x/page.md: link to c.md leads nowhere"]


def test_a_page_that_names_a_module_that_is_gone_is_refused() -> None:
    page = "`cache/pages.py` and `cache/gone.py`, not pages.py"
    assert tree_rules.missing_modules(page, ["src/longlens/cache/pages.py"]) == ["cache/gone.py: no such module"]
