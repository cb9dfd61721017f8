"""The engine: token ids in, token events out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence

from torch import Tensor

from longlens.cache.pages import PagePool
from longlens.engine.events import EngineEvent, FinishedEvent, TokenEvent
from longlens.engine.loop import EngineLimits, StepLoop
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import CancelFlag, Request, TokenSequence
from longlens.engine.session import EngineSession
from longlens.engine.token_context import TokenContext
from longlens.errors import CapacityError, UsageError
from longlens.model.state import CausalModel


class Engine:
    """Runs a model over token ids: requests in one batch, sessions that keep their rows, logits of whole prompts.

    It belongs to one thread. Another thread, or a signal handler, may only raise a request's `CancelFlag`.
    """

    def __init__(
        self,
        model: CausalModel,
        pool: PagePool,
        limits: EngineLimits,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Bring a model and its cache together.

        Args:
            model: what computes.
            pool: pages laid out by `model.cache_spec`.
            limits: chunk size, context and stop ids.
            clock: seconds, for the records.

        Raises:
            UsageError: the pool is laid out for another model, or a limit is not positive.
            CapacityError: the pool does not hold one sequence of `max_context` tokens.
        """
        if pool.spec != model.cache_spec:
            raise UsageError("the page pool is laid out for another model", "make it from model.cache_spec")
        if limits.chunk_tokens < 1 or limits.max_context < 1:
            raise UsageError(
                f"chunks of {limits.chunk_tokens} and a context of {limits.max_context} tokens cannot work",
                "both are at least one token",
            )
        if pool.num_tokens < limits.max_context:
            raise CapacityError(
                f"the cache holds {pool.num_tokens} tokens, the context has {limits.max_context}",
                f"--context {pool.num_tokens} fits",
            )
        self._loop = StepLoop(model, pool, limits, clock=clock)

    @property
    def pool(self) -> PagePool:
        """The pages that all sequences share."""
        return self._loop.pool

    @property
    def limits(self) -> EngineLimits:
        """Chunk size, context and stop ids."""
        return self._loop.limits

    @property
    def has_work(self) -> bool:
        """Whether a request is running or waiting."""
        return self._loop.has_work

    def add(self, request: Request) -> TokenSequence:
        """Queue a request; `step` runs it and reports its events under `sequence.number`.

        Raises:
            UsageError: empty prompt, unknown tokens, or a bias or stop id outside the vocabulary.
            ContextLengthError: prompt and answer do not fit the context.
        """
        return self._loop.submit(request, TokenContext.empty(self.pool), keeps_context=False)

    def step(self) -> list[EngineEvent]:
        """Run one step of all requests.

        Returns:
            New events of requests made by `add`. Those of `generate` go to their own iterators.

        Raises:
            LonglensError: the model could not compute the step; no row of it is kept.
        """
        self._loop.advance()
        return self._loop.take_events()

    def generate(self, request: Request) -> Generator[TokenEvent | FinishedEvent, None, None]:
        """Answer a prompt: `TokenEvent`s, then one `FinishedEvent`.

        The request is checked now and runs as events are asked for, together with all others that are open. Closing
        the iterator ends it.

        Raises:
            UsageError, ContextLengthError: as `add`, from this call.
            CapacityError: the pages are taken by sessions; from the iterator.
            LonglensError: the logits hold NaN, or rules and bias forbid every token; from the iterator.
        """
        return self._loop.stream(request, TokenContext.empty(self.pool), keeps_context=False)

    def session(self) -> EngineSession:
        """Begin a session without tokens."""
        return EngineSession(self._loop, TokenContext.empty(self.pool))

    def logits(
        self,
        token_ids: Sequence[int],
        *,
        cancel: CancelFlag | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Logits after every token, by the same path as generation: chunks, cache, selected rows.

        The head takes all rows of a chunk at once, generation only the last: where a matrix product depends on how
        many rows it has, their last bits differ.

        Args:
            token_ids: at least one.
            cancel: raise it to stop.
            on_progress: called after each chunk with the tokens read so far and all of them.

        Returns:
            fp32 [T, vocab_size] on the cache's device; 4 * T * vocab_size bytes.

        Raises:
            UsageError: no tokens, or unknown ones.
            ContextLengthError: more tokens than the context holds.
            CapacityError: the free pages do not hold them.
            CancelledError: `cancel` was raised.
        """
        sampling = SamplingParams(max_tokens=0)
        return self._loop.read_all_logits(Request(token_ids, sampling, (), cancel or CancelFlag(), on_progress))
