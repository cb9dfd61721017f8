"""Names in files and in questions, as far as choosing files needs them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

_REFERRING = re.compile(
    rb"^[ \t]*(?:import|from|#[ \t]*include|use|pub use|mod|pub mod|using|package|require\w*|export)\b([^\n]{0,300})"
    rb"|\b(?:require|import)\(([^)\n]{0,200})\)",
    re.MULTILINE,
)
_WORD = re.compile(rb"[A-Za-z_]\w{2,}")
_DEFINING = re.compile(
    rb"\b(?:def|class|struct|enum|interface|trait|func|fn|fun|function|type|const|define|object|module|record)"
    rb"[ \t]+([A-Za-z_]\w{2,})"
)
_QUESTION_WORD = re.compile(r"[^\s\"'`,;:!?()\[\]{}<>]+")
_FOLDER_FILES = frozenset({"__init__", "index", "mod", "lib", "main"})


def module_name(path: str) -> str:
    """Return the name that other files use for a file: its stem, or its folder's for `__init__`, `index`, `mod`."""
    folder, name = posixpath.split(path)
    stem = name.split(".")[0]
    return posixpath.basename(folder) or stem if stem in _FOLDER_FILES else stem


def referred_names(content: bytes) -> frozenset[bytes]:
    """Return the words in lines that bring in other files (import, include, use, require and their like)."""
    found: set[bytes] = set()
    for match in _REFERRING.finditer(content):
        found.update(_WORD.findall(match[1] or match[2] or b""))
    return frozenset(found)


def question_names(question: bytes) -> frozenset[str]:
    """Return what could be names in a question: words of three characters or more, trailing dots and slashes cut."""
    words = _QUESTION_WORD.findall(question.decode("utf-8", "surrogateescape"))
    return frozenset(word for word in (word.strip("./\\") for word in words) if len(word) >= 3)


def is_named(path: str, content: bytes, names: Iterable[str]) -> bool:
    """Whether a question's names name a file: its path, the end of its path, its stem, or something it defines."""
    names = set(names)
    stem = posixpath.basename(path).split(".")[0]
    if stem in names or any(path == name or path.endswith("/" + name) for name in names):
        return True
    # Words without a capital, digit or underscore inside are words of a language more often than definitions.
    telling = {part for name in names for part in re.split(r"[./:#\\]+", name) if re.search(r"[A-Z_0-9]", part[1:])}
    wanted = {name.encode("utf-8", "surrogateescape") for name in telling}
    return bool(wanted) and any(match[1] in wanted for match in _DEFINING.finditer(content))
