"""One sequence's rows in the page pool."""

from __future__ import annotations

import torch
from torch import Tensor

from longlens.cache.pages import PagePool
from longlens.errors import ShapeError, UsageError
from longlens.kernels.interface import CachedRows
from longlens.model.state import CacheKind


class SequenceCache:
    """Positions of one sequence -> slots of the pool; implements `model.state.SequenceState`.

    A step is `reserve`, writes, then `commit`, or `drop_uncommitted` when it was cut short. Committed rows are never
    written again by this sequence, so full pages can be shared with its forks; a shared page that is only partly
    filled is copied when room behind it is reserved, which is just before the first write into it.
    """

    def __init__(self, pool: PagePool) -> None:
        """Begin an empty sequence; it takes no page yet."""
        self.pool = pool
        self._pages: list[int] = []
        self._slots = torch.empty(0, dtype=torch.int64, device=pool.device)
        self._offsets = torch.arange(pool.page_tokens, dtype=torch.int64, device=pool.device)
        self._length = 0
        self._reserved = 0  # end of the room; never below _length
        self._is_closed = False

    @property
    def length(self) -> int:
        """Committed tokens: positions 0..length-1 hold finished rows."""
        return self._length

    @property
    def pages(self) -> tuple[int, ...]:
        """The page table, one page per `page_tokens` positions."""
        return tuple(self._pages)

    @property
    def is_closed(self) -> bool:
        """Whether the pages were given back for good."""
        return self._is_closed

    def pages_needed(self, num_tokens: int) -> int:
        """Free pages that `reserve(num_tokens)` would take, the copy of a shared page included."""
        if num_tokens <= 0:
            return 0
        missing = self._page_count(self._length + num_tokens) - len(self._pages)
        return max(missing, 0) + int(self._must_copy_last_page())

    def reserve(self, num_tokens: int) -> None:
        """Make room for the next tokens, so that the step's writes cannot fail half-way.

        Raises:
            UsageError: the sequence is closed, or `num_tokens` is not positive.
            CapacityError: too few pages are free; nothing has changed then.
        """
        self._check_open()
        if num_tokens < 1:
            raise UsageError(f"room for {num_tokens} tokens was asked for", "a step has at least one token")
        fresh = self.pool.allocate(self.pages_needed(num_tokens))
        if self._must_copy_last_page():
            self._replace_shared_page(fresh.pop(0))
        self._append_pages(fresh)
        self._reserved = self._length + num_tokens

    def write(self, kind: CacheKind, layer: int, rows_TX: Tensor, first_position: int) -> None:
        """Store rows for positions first_position.. of one cached tensor.

        Raises:
            ShapeError: the rows have another width, or lie outside the room that `reserve` made.
            UsageError: the spec has no such tensor.
        """
        end = first_position + rows_TX.shape[0]
        if first_position < self._length or end > self._reserved:
            raise ShapeError(
                f"a step wrote positions {first_position}..{end - 1}, room is for {self._length}..{self._reserved - 1}",
                "a step writes the positions of its own tokens only",
            )
        self.pool.layer_state(kind, layer).write(rows_TX, self._slots[first_position:end])

    def rows(self, kind: CacheKind, layer: int, num_positions: int) -> CachedRows:
        """Read access to positions 0..num_positions-1 of one cached tensor, without copying.

        Raises:
            ShapeError: more positions are asked for than are stored or reserved.
            UsageError: the spec has no such tensor.
        """
        if not 0 <= num_positions <= self._reserved:
            raise ShapeError(
                f"{num_positions} positions were asked for, the sequence has {self._reserved}",
                "a step reads the positions before it and its own",
            )
        return self.pool.layer_state(kind, layer).read(self._slots[:num_positions])

    def commit(self, num_tokens: int) -> None:
        """Keep the first `num_tokens` of the reserved positions; what was reserved behind them is given back.

        Raises:
            UsageError: more tokens than were reserved.
        """
        self._check_open()
        if not 0 <= num_tokens <= self._reserved - self._length:
            raise UsageError(
                f"{num_tokens} tokens cannot be kept, {self._reserved - self._length} were reserved",
                "reserve room before a step and commit what it wrote",
            )
        self._trim(self._length + num_tokens)

    def drop_uncommitted(self) -> None:
        """Forget what was reserved and written since the last commit; does nothing after a commit."""
        if not self._is_closed:
            self._trim(self._length)

    def fork(self) -> SequenceCache:
        """Begin a second sequence with the same rows; no row is copied until one of the two writes.

        Raises:
            UsageError: the sequence is closed, or in the middle of a step.
        """
        self._check_open()
        self._check_idle("forked")
        twin = SequenceCache(self.pool)
        self.pool.share(self._pages)
        twin._pages = list(self._pages)
        twin._slots = self._slots[: len(self._pages) * self.pool.page_tokens].clone()
        twin._length = twin._reserved = self._length
        return twin

    def rewind(self, length: int) -> None:
        """Forget the rows of positions length.. in every tensor at once; whole pages are given back.

        Raises:
            UsageError: the sequence is closed, in the middle of a step, or shorter than `length`.
        """
        self._check_open()
        self._check_idle("rewound")
        if not 0 <= length <= self._length:
            raise UsageError(
                f"a sequence of {self._length} tokens cannot be rewound to {length}",
                f"rewind to between 0 and {self._length}",
            )
        self._trim(length)

    def close(self) -> None:
        """Give all pages back; a second call does nothing."""
        if self._is_closed:
            return
        self._trim(0)
        self._is_closed = True

    def _trim(self, length: int) -> None:
        kept = self._page_count(length)
        surplus = self._pages[kept:]
        del self._pages[kept:]
        self.pool.release(reversed(surplus))  # the lowest is on top again
        self._length = self._reserved = length

    def _page_count(self, num_tokens: int) -> int:
        return -(-num_tokens // self.pool.page_tokens)

    def _must_copy_last_page(self) -> bool:
        is_partial = self._length % self.pool.page_tokens != 0
        return is_partial and self.pool.references(self._pages[self._length // self.pool.page_tokens]) > 1

    def _replace_shared_page(self, fresh: int) -> None:
        number, num_filled = divmod(self._length, self.pool.page_tokens)
        shared = self._pages[number]
        self.pool.copy_page(shared, fresh, num_filled)
        self._pages[number] = fresh
        self._enter_slots(number, [fresh])
        self.pool.release([shared])

    def _append_pages(self, fresh: list[int]) -> None:
        if not fresh:
            return
        first = len(self._pages)
        self._pages.extend(fresh)
        num_slots = len(self._pages) * self.pool.page_tokens
        if num_slots > self._slots.shape[0]:
            # Doubling keeps the cost of a decode step independent of the sequence's length.
            grown = self._slots.new_empty(max(num_slots, 2 * self._slots.shape[0]))
            grown[: self._slots.shape[0]] = self._slots
            self._slots = grown
        self._enter_slots(first, fresh)

    def _enter_slots(self, first_page: int, pages: list[int]) -> None:
        page_tokens = self.pool.page_tokens
        starts = torch.tensor(pages, dtype=torch.int64, device=self.pool.device) * page_tokens
        start = first_page * page_tokens
        self._slots[start : start + len(pages) * page_tokens] = (starts[:, None] + self._offsets).flatten()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError("the sequence is closed", "begin a new one")

    def _check_idle(self, verb: str) -> None:
        if self._reserved > self._length:
            raise UsageError(f"a sequence cannot be {verb} in the middle of a step", "commit or drop the step first")
