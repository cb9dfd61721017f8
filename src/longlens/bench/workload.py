"""What is measured: numbers of tokens and depths as llama-bench spells them, and the names that figures go by.

Source: llama.cpp, tools/llama-bench (`parse_int_range`, `test::get_builds`, names such as `pp512 @ d4096`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from longlens.errors import UsageError

WorkloadKind = Literal["pp", "tg", "pg", "ttft"]
Label = Literal["cold", "warm", "after restart"]
LABELS: tuple[Label, ...] = ("cold", "warm", "after restart")

# Greedy tokens that a figure of prefill writes afterwards, so that its digest says something.
GATE_TOKENS = 8
DEFAULT_PROMPT, DEFAULT_GENERATE = 512, 128
MOST_COUNTS = 1000
_RANGE = re.compile(r"(?P<first>\d{1,9})(?:-(?P<last>\d{1,9})(?:(?P<sign>[+*])(?P<step>\d{1,9}))?)?")


@dataclass(frozen=True)
class Workload:
    """One thing to measure.

    Attributes:
        kind: "pp" reads a prompt, "tg" writes tokens, "pg" does both, "ttft" waits for the first token.
        prompt_tokens: tokens read; 0 for "tg".
        new_tokens: tokens written; 0 for "pp" and "ttft".
        depth: tokens that are in the cache before.
    """

    kind: WorkloadKind
    prompt_tokens: int
    new_tokens: int
    depth: int = 0

    @property
    def name(self) -> str:
        """As llama-bench writes it: `pp512`, `tg128 @ d8192`, `pp512+tg128`; and `ttft4096`."""
        reads, writes = f"pp{self.prompt_tokens}", f"tg{self.new_tokens}"
        plain = {"pp": reads, "tg": writes, "pg": f"{reads}+{writes}", "ttft": f"ttft{self.prompt_tokens}"}[self.kind]
        return f"{plain} @ d{self.depth}" if self.depth else plain

    @property
    def label(self) -> Label:
        """What the cache makes of it: a depth is a prefix in memory."""
        return "warm" if self.depth else "cold"

    @property
    def most_tokens(self) -> int:
        """Tokens of the sequence at its end; decode starts behind at least one, and writes one that is not timed."""
        return self.depth + max(self.prompt_tokens, 1) + max(self.new_tokens + 1, GATE_TOKENS)


@dataclass(frozen=True)
class Counts:
    """The lists of one command line, as they were typed; an option may be repeated."""

    prompts: Sequence[str] = ()
    generates: Sequence[str] = ()
    pairs: Sequence[str] = ()
    first_tokens: Sequence[str] = ()
    depths: Sequence[str] = ()


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """Read a list of numbers and ranges: `512,1024`, `128-1024*2`, `0-4096+1024`, `3-5`.

    A range without a step goes in ones. Its last number is part of it only if a step leads there.

    Args:
        text: the list.
        option: whose list it is, for errors.

    Raises:
        UsageError: not a list of ranges, one that goes nowhere, or one that is absurdly long.
    """
    counts: list[int] = []
    for piece in text.split(","):
        match = _RANGE.fullmatch(piece.strip())
        if match is None:
            raise UsageError(
                f"{option} {text!r}: {piece!r} is no number of tokens", "write 512, 512,1024, 128-1024*2 or 0-4096+1024"
            )
        counts += _range_of(match, f"{option} {text!r}")
        if len(counts) > MOST_COUNTS:
            raise UsageError(f"{option} {text!r} asks for more than {MOST_COUNTS} figures", "give a larger step")
    return tuple(counts)


def _range_of(match: re.Match[str], where: str) -> list[int]:
    first = int(match["first"])
    last = int(match["last"] or first)
    step, multiplies = int(match["step"] or 1), match["sign"] == "*"
    if last < first:
        raise UsageError(f"{where}: the range {match[0]} ends before it begins", "write the smaller number first")
    stands_still = (multiplies and (step < 2 or first == 0)) or step == 0
    if match["sign"] and stands_still:
        raise UsageError(f"{where}: the range {match[0]} never gets on", "add at least 1, or multiply from 1 by 2")
    counts: list[int] = []
    value = first
    while value <= last and len(counts) <= MOST_COUNTS:
        counts.append(value)
        value = value * step if multiplies else value + step
    return counts


def parse_pair(text: str) -> tuple[int, int]:
    """Read `-pg`: a prompt and how many tokens are written after it, `512,128`.

    Raises:
        UsageError: not two numbers above 0.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"-pg {text!r} is not two numbers of tokens", "write 512,128")
    return int(match[1]), int(match[2])


def workloads_of(counts: Counts) -> tuple[Workload, ...]:
    """List what a command line asks for, the shallowest depth first, nothing twice.

    As in llama-bench, a prompt of 512 and 128 tokens of answer are measured unless `-p` and `-n` say otherwise, and 0
    leaves one of them out.

    Raises:
        UsageError: a list that cannot be read, or nothing to measure.
    """
    prompts = _all(counts.prompts, "-p") if counts.prompts else [DEFAULT_PROMPT]
    generates = _all(counts.generates, "-n") if counts.generates else [DEFAULT_GENERATE]
    pairs = [parse_pair(text) for text in counts.pairs]
    first_tokens = _all(counts.first_tokens, "--ttft")
    found: dict[Workload, None] = {}
    for depth in sorted(_all(counts.depths, "-d") or [0]):
        found |= dict.fromkeys(Workload("pp", count, 0, depth) for count in prompts if count)
        found |= dict.fromkeys(Workload("tg", 0, count, depth) for count in generates if count)
        found |= dict.fromkeys(Workload("pg", reads, writes, depth) for reads, writes in pairs)
        found |= dict.fromkeys(Workload("ttft", count, 0, depth) for count in first_tokens if count)
    if not found:
        raise UsageError("nothing is left to measure", "give -p or -n a number above 0")
    return tuple(found)


def needed_context(workloads: Sequence[Workload], page_tokens: int) -> int:
    """Tokens that the context must have for the longest of some workloads.

    A depth that fills its last page only in part costs one page more: the fork that measures copies it.
    """
    longest = max(workload.most_tokens for workload in workloads)
    copied = page_tokens if any(workload.depth % page_tokens for workload in workloads) else 0
    return longest + copied


def _all(texts: Iterable[str], option: str) -> list[int]:
    return [count for text in texts for count in parse_counts(text, option)]
