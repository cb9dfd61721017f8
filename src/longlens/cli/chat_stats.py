"""What a chat has cost so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from longlens.chat.dialogue import Dialogue
from longlens.chat.request import Finished
from longlens.cli.start_log import end_line


@dataclass
class ChatTotals:
    """Sums over all answers of a chat, those that were dropped included."""

    num_answers: int = 0
    cached_tokens: int = 0
    read_tokens: int = 0
    completion_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    last: Finished | None = None

    def take(self, finished: Finished) -> None:
        """Count one more answer."""
        self.num_answers += 1
        self.cached_tokens += finished.usage.cached_tokens
        self.read_tokens += finished.usage.read_tokens
        self.completion_tokens += finished.usage.completion_tokens
        self.prefill_s += finished.timings.prefill_s
        self.decode_s += finished.timings.decode_s
        self.last = finished


def stats_lines(dialogue: Dialogue, totals: ChatTotals) -> Iterator[str]:
    """Say what `/stats` says, a line at a time."""
    yield f"conversation: {len(dialogue.exchanges)} turns, {len(dialogue.messages)} messages"
    if totals.last is not None:
        yield f"last answer: {end_line(totals.last)}"
    yield (
        f"all {totals.num_answers} answers: {totals.read_tokens} tokens read in {totals.prefill_s:.2f} s, "
        f"{totals.cached_tokens} cached, {totals.completion_tokens} written in {totals.decode_s:.2f} s"
    )
    left = dialogue.max_context - dialogue.num_tokens
    yield f"context: {dialogue.num_tokens} of {dialogue.max_context} tokens taken, {left} left"
    yield f"cache: rows of {dialogue.cached_tokens} tokens in memory"
