"""What is timed: reading a prompt or answering, after a context of some depth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

NUM_THREADS = 2
"""Threads of every peer and of ours: two cores are what the comparisons are about."""

# llama.cpp's scratch and masks grow with ubatch times context: the longer the context, the smaller the ubatch.
_UBATCH_FROM_DEPTH = ((32_768, 128), (16_384, 256), (0, 512))
_NAME = re.compile(r"(pp|tg)(\d+)(?:\s*@\s*d(\d+))?")


@dataclass(frozen=True)
class Workload:
    """`num_tokens` tokens, read at once (prefill) or one by one (decode), after `depth` tokens that are not timed."""

    kind: Literal["prefill", "decode"]
    num_tokens: int
    depth: int = 0

    @property
    def name(self) -> str:
        """As llama-bench writes it: `pp512 @ d4096`, `tg32`."""
        test = f"{'pp' if self.kind == 'prefill' else 'tg'}{self.num_tokens}"
        return f"{test} @ d{self.depth}" if self.depth else test

    @property
    def ubatch_tokens(self) -> int:
        """Most tokens that llama.cpp computes at once: 512; 256 from 16K on, 128 from 32K on."""
        return next(ubatch for depth, ubatch in _UBATCH_FROM_DEPTH if self.depth >= depth)


def parse_workload(name: str) -> Workload:
    """Read `pp512 @ d4096`, with or without blanks.

    Raises:
        ValueError: anything else.
    """
    match = _NAME.fullmatch(name.strip())
    if match is None or int(match[2]) == 0:
        raise ValueError(f"{name!r} is no workload; write pp512, tg32, or pp512@d4096")
    return Workload("prefill" if match[1] == "pp" else "decode", int(match[2]), int(match[3] or 0))
