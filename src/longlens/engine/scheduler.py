"""Which sequences a step works on.

Admission is first come, first served. A sequence is admitted when the free pages, less what the running sequences may
still take, hold all rows that it can ever need: an admitted sequence therefore never runs out of pages, and none is
thrown out and read again. The price is that a request without `max_tokens` claims the rest of the context.

A step takes one token of every sequence that is decoding, and prefill chunks of up to `chunk_tokens` tokens together.
The sequence that has waited longest for a chunk goes first and always gets it; smaller chunks behind it fill what is
left. So decoding never stops for prefill, a short prompt waits for at most one chunk of each sequence ahead of it, and
a step's work is bounded.

Prefill chunks end at absolute multiples of `chunk_tokens` (or with the prompt), wherever they begin: a resumed run
computes the same shapes as an undisturbed one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from longlens.cache.pages import PagePool
from longlens.engine.sequence import TokenSequence


def chunk_end(first_position: int, end: int, chunk_tokens: int) -> int:
    """Where the prefill chunk that begins at a position ends: the next multiple of the chunk size, or the prompt's end.

    Args:
        first_position: position of the first token to read.
        end: number of tokens to read, counted from position 0.
        chunk_tokens: the plan's chunk size.
    """
    return min((first_position // chunk_tokens + 1) * chunk_tokens, end)


class Scheduler:
    """Queues sequences, admits them by pages, and divides steps among them."""

    def __init__(self, pool: PagePool, *, chunk_tokens: int, max_context: int) -> None:
        self._pool = pool
        self._chunk_tokens = chunk_tokens
        self._max_context = max_context
        self._waiting: deque[TokenSequence] = deque()
        self._running: list[TokenSequence] = []  # the longest without a prefill chunk first

    @property
    def running(self) -> tuple[TokenSequence, ...]:
        """Admitted sequences."""
        return tuple(self._running)

    @property
    def sequences(self) -> Iterator[TokenSequence]:
        """All sequences, admitted or waiting."""
        yield from tuple(self._running)
        yield from tuple(self._waiting)

    @property
    def num_spare_pages(self) -> int:
        """Free pages that no admitted sequence may still need."""
        return self._pool.num_free_pages - sum(self.pages_to_come(sequence) for sequence in self._running)

    def add(self, sequence: TokenSequence) -> None:
        """Put a sequence at the end of the queue."""
        self._waiting.append(sequence)

    def remove(self, sequence: TokenSequence) -> None:
        """Forget a sequence, wherever it stands."""
        (self._waiting if sequence in self._waiting else self._running).remove(sequence)

    def admit(self) -> None:
        """Let waiting sequences run, in order, as long as they fit."""
        while self._waiting and self.pages_to_come(self._waiting[0]) <= self.num_spare_pages:
            sequence = self._waiting.popleft()
            sequence.begin()
            self._running.append(sequence)

    def stuck(self) -> TokenSequence | None:
        """The first waiting sequence when nothing runs, so that no page will become free by itself."""
        return self._waiting[0] if self._waiting and not self._running else None

    def plan_step(self) -> list[tuple[TokenSequence, int]]:
        """Choose the sequences of the next step, and how many tokens of each."""
        work = [
            (sequence, 1) for sequence in self._running if sequence.phase == "decode" and sequence.context.num_unread
        ]
        budget = self._chunk_tokens
        for sequence in [sequence for sequence in self._running if sequence.phase == "prefill"]:
            first = sequence.context.cache.length
            num_tokens = chunk_end(first, sequence.num_prompt_tokens, self._chunk_tokens) - first
            if num_tokens <= budget:
                budget -= num_tokens
                work.append((sequence, num_tokens))
                self._running.remove(sequence)
                self._running.append(sequence)
        return work

    def pages_to_come(self, sequence: TokenSequence) -> int:
        """Free pages that a sequence may still take before it ends."""
        cache = sequence.context.cache
        return cache.pages_needed(sequence.final_rows(self._max_context) - cache.length)
