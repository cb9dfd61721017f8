from __future__ import annotations

import pytest

from longlens.repo.symbols import is_named, module_name, question_names, referred_names


def test_a_module_goes_by_its_stem_or_its_folder() -> None:
    assert module_name("src/a/pages.py") == "pages"
    assert module_name("src/cache/__init__.py") == "cache"
    assert module_name("index.ts") == "index"


@pytest.mark.parametrize(
    "line",
    ["from a.pages import B", "import pages", '#include "pages.h"', "use crate::pages;", "x = require('./pages')"],
)
def test_a_line_that_brings_in_a_file_names_it(line: str) -> None:
    assert b"pages" in referred_names(b"first\n" + line.encode())


def test_other_lines_name_nothing() -> None:
    assert referred_names(b"pages = 1\n# from the pages\n") == frozenset()


def test_a_question_names_files_by_path_stem_and_definition() -> None:
    names = question_names(b"Where does `PagePool` in cache/pages.py (or planner) take a page?")
    assert is_named("src/cache/pages.py", b"", names)
    assert is_named("planner.py", b"", names)
    assert is_named("a.py", b"class PagePool:", names)
    assert not is_named("b.py", b"class Pool:\ndef take(): pass", names)


def test_small_words_name_nothing() -> None:
    assert "is" not in question_names(b"is it a?")
