"""The tokens of a session or request, their cached rows, and the logits after the last of them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from longlens.cache.pages import PagePool
from longlens.cache.sequence_cache import SequenceCache
from longlens.engine.turn_record import TurnMeter
from longlens.errors import UsageError


class TokenContext:
    """Tokens, of which a prefix is read: its rows lie in `cache`. The rest is read when something asks for it.

    Attributes:
        token_ids: all tokens, read or not.
        cache: rows of the first `cache.length` of them.
        logits_V: fp32 logits after the last token; None while they are unknown.
        selections: what the full layers selected for the row of these logits: layer and positions [K], -1 padded.
        meter: counts of the turn in progress.
        is_busy: whether a sequence is working on it.
    """

    def __init__(self, cache: SequenceCache) -> None:
        """Begin with no tokens and an empty cache."""
        self.token_ids: list[int] = []
        self.cache = cache
        self.logits_V: Tensor | None = None
        self.selections: tuple[tuple[int, Tensor], ...] = ()
        self.meter = TurnMeter()
        self.is_busy = False

    @classmethod
    def empty(cls, pool: PagePool) -> TokenContext:
        """Begin with no tokens in a pool."""
        return cls(SequenceCache(pool))

    @property
    def num_unread(self) -> int:
        """Tokens whose rows are not computed yet."""
        return len(self.token_ids) - self.cache.length

    def extend(self, token_ids: Iterable[int]) -> None:
        """Append tokens, unread."""
        before = len(self.token_ids)
        self.token_ids.extend(token_ids)
        if len(self.token_ids) > before:
            self._forget_logits()

    def prepare_to_read(self) -> None:
        """Make sure that reading the unread tokens yields the last token's logits, unless they are known."""
        if self.num_unread == 0 and self.logits_V is None and self.token_ids:
            # After a rewind the last row is there but its logits are not; one row is computed again.
            self._trim_rows(len(self.token_ids) - 1)

    def start_turn(self) -> None:
        """Begin counting a turn: what is read now is cached for it."""
        self.meter = TurnMeter(cached_tokens=self.cache.length)

    def rewind(self, num_tokens: int) -> None:
        """Forget all but the first tokens, and their rows.

        Raises:
            UsageError: there are fewer tokens, or a sequence is at work.
        """
        self.check_idle()
        if not 0 <= num_tokens <= len(self.token_ids):
            raise UsageError(
                f"{len(self.token_ids)} tokens cannot be rewound to {num_tokens}",
                f"rewind to between 0 and {len(self.token_ids)}",
            )
        if num_tokens == len(self.token_ids):
            return
        if num_tokens < self.cache.length:
            self._trim_rows(num_tokens)
        del self.token_ids[num_tokens:]
        self._forget_logits()

    def fork(self) -> TokenContext:
        """A second context with the same tokens that shares the rows; all of them count as cached for it.

        Raises:
            UsageError: a sequence is at work.
        """
        self.check_idle()
        twin = TokenContext(self.cache.fork())
        twin.token_ids = list(self.token_ids)
        twin.logits_V, twin.selections = self.logits_V, self.selections
        twin.start_turn()
        return twin

    def close(self) -> None:
        """Give the pages back; a second call does nothing.

        Raises:
            UsageError: a sequence is at work.
        """
        if not self.cache.is_closed:
            self.check_idle()
            self.cache.close()
            self._forget_logits()

    def check_idle(self) -> None:
        """Refuse while a sequence is at work, or after `close`.

        Raises:
            UsageError: it is so.
        """
        if self.cache.is_closed:
            raise UsageError("the session is closed", "begin a new one, or fork a session before closing it")
        if self.is_busy:
            raise UsageError("the session is in the middle of an answer", "finish, cancel or close the iterator first")

    def _forget_logits(self) -> None:
        self.logits_V = None
        self.selections = ()

    def _trim_rows(self, length: int) -> None:
        self.cache.rewind(length)
        self.meter.cached_tokens = min(self.meter.cached_tokens, length)
