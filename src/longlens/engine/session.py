"""A context that outlives one request: read, answer, fork, rewind. Nothing in it is read twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from types import TracebackType

from torch import Tensor

from longlens.engine.events import FinishedEvent, TokenEvent
from longlens.engine.loop import StepLoop
from longlens.engine.sampling import LogitsRule, SamplingParams
from longlens.engine.sequence import CancelFlag, Request
from longlens.engine.token_context import TokenContext
from longlens.errors import CancelledError, UsageError

_READ_ONLY = SamplingParams(max_tokens=0)


class EngineSession:
    """Tokens and their rows, kept between requests. Made by `Engine.session`; close it to free its pages."""

    def __init__(self, loop: StepLoop, context: TokenContext) -> None:
        """Wrap a context."""
        self._loop = loop
        self._context = context

    def __enter__(self) -> EngineSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens: what was given and what was answered, stop ids excluded."""
        return tuple(self._context.token_ids)

    @property
    def cached_tokens(self) -> int:
        """Tokens whose rows are computed; the last token of an answer is read only when something follows it."""
        return self._context.cache.length

    @property
    def unread_tokens(self) -> int:
        """Tokens whose rows the next `extend`, `logits` or `generate` computes."""
        return self._context.num_unread

    def extend(
        self,
        token_ids: Sequence[int],
        *,
        cancel: CancelFlag | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Append tokens and read all that is unread.

        Args:
            token_ids: new tokens; none goes on with what an earlier call left unread.
            cancel: raise it to stop.
            on_progress: called after each chunk with the tokens read so far and all that this call reads.

        Raises:
            UsageError: unknown tokens, or the session is closed or in the middle of an answer.
            ContextLengthError: too many tokens; nothing was appended.
            CapacityError: the pages of the cache are taken; nothing was appended.
            CancelledError: stopped; all tokens are appended, finished chunks are kept, and the next call goes on.
        """
        self._context.check_idle()
        if not token_ids and not self._context.token_ids:
            return
        self._read(Request(tuple(token_ids), _READ_ONLY, (), cancel or CancelFlag(), on_progress))

    def logits(self, *, cancel: CancelFlag | None = None) -> Tensor:
        """fp32 logits [vocab_size] after the last token; reads what is unread.

        After a `rewind` without new tokens, the last row is computed once more for it.

        Raises:
            UsageError: no tokens, or the session is closed or in the middle of an answer.
            CapacityError, CancelledError: as `extend`.
        """
        self._context.check_idle()
        if self._context.logits_V is None:
            self._read(Request((), _READ_ONLY, (), cancel or CancelFlag()))
        if self._context.logits_V is None:
            raise UsageError("the session has no logits yet", "extend it with at least one token")
        return self._context.logits_V.clone()

    def generate(
        self,
        sampling: SamplingParams,
        *,
        token_ids: Sequence[int] = (),
        rules: Sequence[LogitsRule] = (),
        cancel: CancelFlag | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_selection: Callable[[int, Tensor], None] | None = None,
    ) -> Generator[TokenEvent | FinishedEvent, None, None]:
        """Answer: sample tokens after the last one and append them.

        The request is checked now and runs as events are asked for; closing the iterator ends the answer, and what it
        has appended stays. `token_ids` are appended before it answers; the other arguments and errors are those of
        `Engine.generate`.
        """
        request = Request(tuple(token_ids), sampling, tuple(rules), cancel or CancelFlag(), on_progress, on_selection)
        return self._loop.stream(request, self._context, keeps_context=True)

    def fork(self) -> EngineSession:
        """A second session with the same tokens; full pages are shared, and no row is read again.

        Raises:
            UsageError: the session is closed or in the middle of an answer.
        """
        return EngineSession(self._loop, self._context.fork())

    def rewind(self, num_tokens: int) -> None:
        """Forget all but the first `num_tokens` tokens, and their rows in every tensor.

        Raises:
            UsageError: the session is closed, in the middle of an answer, or shorter.
        """
        self._context.rewind(num_tokens)

    def close(self) -> None:
        """Free the pages; a second call does nothing.

        Raises:
            UsageError: the session is in the middle of an answer.
        """
        self._context.close()

    def _read(self, request: Request) -> None:
        for event in self._loop.stream(request, self._context, keeps_context=True):
            if isinstance(event, FinishedEvent) and event.record.finish_reason == "cancelled":
                raise CancelledError(
                    f"reading stopped with {self._context.num_unread} tokens unread",
                    "what was read is kept; extend the session, even by nothing, to go on",
                )
