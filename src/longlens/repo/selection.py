"""Which files go into a base when not all of them fit.

A file's importance depends on no question, so that the base stays the same from question to question:

    log2(1 + files that refer to it)   import, include, use and their like name its module
    + 4 for a README at the root, 1 below; + 2 for an entry point (main, app, cli, index, lib, __main__, ...)
    - 0.5 for every folder above it; - 2 below tests, examples, docs, fixtures, benchmarks
    - 0.25 * log2(1 + KiB)

Dependency configurations come before everything. Importance fills 60 % of the budget, then come files that the first
question names, then importance again. A file that does not fit is passed over, and smaller ones may follow.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from longlens.repo.file_rules import is_dependency_config
from longlens.repo.files import LeftOut
from longlens.repo.symbols import is_named, module_name, question_names, referred_names

NO_ROOM = "no room in the context"
CHANGES_SHARE = 0.2
# What a question names is the likeliest place of its answer; less than this would often leave no room for one file.
_SHARE_BEFORE_NAMES = 0.6
# A file is not counted when even so much of the tokens that its size lets expect would not fit.
_LEAST_OF_EXPECTED = 0.7
_ENTRY_POINTS = frozenset({"main", "app", "cli", "index", "lib", "mod", "server", "__main__", "__init__", "manage"})
_ASIDE = re.compile(
    r"(?:^|/)(?:tests?|testing|spec|examples?|docs?|fixtures|testdata|benchmarks?|golden)/", re.IGNORECASE
)

CountTokens = Callable[[str, bytes], int]


@dataclass(frozen=True)
class Selection:
    """The files of a base.

    Attributes:
        files: their bytes, by path.
        left_out: the files that found no room.
    """

    files: Mapping[str, bytes]
    left_out: tuple[LeftOut, ...]


def base_budget(context: int, *, question_tokens: int, answer_tokens: int) -> int:
    """Return how many tokens a base may have: base, a fifth of it for changes, question and answer fill the context."""
    return max(int((context - question_tokens - answer_tokens) / (1 + CHANGES_SHARE)), 0)


def order_by_importance(files: Mapping[str, bytes]) -> list[str]:
    """Return the paths, the most important first; dependency configurations before all others."""
    referrers: Counter[bytes] = Counter()
    own_names = {path: module_name(path).encode("utf-8", "surrogateescape") for path in files}
    for path, content in files.items():
        referrers.update(referred_names(content) - {own_names[path]})
    scores = {path: _importance(path, len(content), referrers[own_names[path]]) for path, content in files.items()}
    return sorted(files, key=lambda path: (not is_dependency_config(path), -scores[path], os.fsencode(path)))


def select(files: Mapping[str, bytes], budget: int, count_tokens: CountTokens, *, question: bytes = b"") -> Selection:
    """Choose the files of a base.

    Args:
        files: all files that may be in it, by path.
        budget: most tokens.
        count_tokens: tokens of a file's piece; the answer may depend on path and bytes only.
        question: the question that the base is made for; it decides about the smaller part.
    """
    order = order_by_importance(files)
    room = _Room(files, count_tokens)
    room.fill(order, int(budget * _SHARE_BEFORE_NAMES))
    names = question_names(question)
    if len(room.chosen) < len(files):
        room.fill([path for path in order if is_named(path, files[path], names)], budget)
    room.fill(order, budget)
    left_out = sorted((path for path in files if path not in room.chosen), key=os.fsencode)
    return Selection({path: files[path] for path in room.chosen}, tuple(LeftOut(path, NO_ROOM) for path in left_out))


class _Room:
    """Takes files as long as they fit, and counts the tokens of no more files than it must."""

    def __init__(self, files: Mapping[str, bytes], count_tokens: CountTokens) -> None:
        self.chosen: dict[str, int] = {}
        self._files = files
        self._count = count_tokens
        self._counted: dict[str, int] = {}
        self._num_tokens = 0
        self._bytes = 0

    def fill(self, order: Sequence[str], budget: int) -> None:
        """Take files in order."""
        used = sum(self.chosen.values())
        for path in order:
            if path in self.chosen or not self._may_fit(path, budget - used):
                continue
            num_tokens = self._tokens(path)
            if num_tokens <= budget - used:
                self.chosen[path] = num_tokens
                used += num_tokens

    def _tokens(self, path: str) -> int:
        if path not in self._counted:
            self._counted[path] = self._count(path, self._files[path])
            self._num_tokens += self._counted[path]
            self._bytes += len(self._files[path])
        return self._counted[path]

    def _may_fit(self, path: str, free: int) -> bool:
        ratio = self._num_tokens / self._bytes if self._bytes else 0.0
        return free > 0 and len(self._files[path]) * ratio * _LEAST_OF_EXPECTED <= free


def _importance(path: str, num_bytes: int, num_referrers: int) -> float:
    name = path.rpartition("/")[2]
    depth = path.count("/")
    score = math.log2(1 + num_referrers) - 0.5 * depth - 0.25 * math.log2(1 + num_bytes / 1024)
    if name.upper().startswith("README"):
        score += 1 if depth else 4
    if name.split(".")[0] in _ENTRY_POINTS:
        score += 2
    return score - 2 * bool(_ASIDE.search(path))
