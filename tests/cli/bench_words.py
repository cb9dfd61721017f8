"""Runs `longlens bench` in this process, so that a fault is an exception and nothing is loaded twice."""

from __future__ import annotations

from longlens.cli.bench import COMMAND
from tests.cli.terminal import TINY

MODEL = ("-m", TINY, "-q")


def bench(*words: str) -> int:
    """One call; returns its exit code."""
    return int(COMMAND.main(list(words), prog_name="longlens bench", standalone_mode=False) or 0)
