"""The engine's loop: admit, step, sample, tell. It belongs to one thread; only `CancelFlag` crosses threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from longlens.cache.pages import PagePool
from longlens.cache.sequence_cache import SequenceCache
from longlens.engine.events import EngineEvent, FailedEvent, FinishedEvent, TokenEvent
from longlens.engine.sampling import Sampler
from longlens.engine.scheduler import Scheduler, chunk_end
from longlens.engine.sequence import Request, TokenSequence, check_length, check_token_ids
from longlens.engine.step import SelectionObserver, StepPart, WantedRows, run_step
from longlens.engine.token_context import TokenContext
from longlens.engine.turn_record import FinishReason
from longlens.errors import CancelledError, CapacityError, LonglensError
from longlens.model.state import CausalModel


@dataclass(frozen=True)
class EngineLimits:
    """What the plan and the file say about a run.

    Attributes:
        chunk_tokens: prefill chunks end at multiples of it.
        max_context: most tokens of a sequence, prompt and answer.
        stop_ids: the model's own stop ids, all of them.
    """

    chunk_tokens: int
    max_context: int
    stop_ids: frozenset[int] = frozenset()


class StepLoop:
    """Runs requests over contexts, several in one step."""

    def __init__(self, model: CausalModel, pool: PagePool, limits: EngineLimits, *, clock: Callable[[], float]) -> None:
        self.pool = pool
        self.limits = limits
        self._model = model
        self._clock = clock
        self._scheduler = Scheduler(pool, chunk_tokens=limits.chunk_tokens, max_context=limits.max_context)
        self._num_submitted = 0
        self._inboxes: dict[int, deque[EngineEvent]] = {}
        self._events: list[EngineEvent] = []

    @property
    def has_work(self) -> bool:
        """Whether a sequence is running or waiting."""
        return next(self._scheduler.sequences, None) is not None

    def check(self, request: Request, context: TokenContext) -> None:
        """Refuse a request before any work is done for it.

        Raises:
            UsageError: no prompt, unknown tokens, or a context that is closed or at work.
            ContextLengthError: prompt and answer do not fit.
        """
        context.check_idle()
        check_token_ids(request.token_ids, self._model.vocab_size)
        num_prompt_tokens = len(context.token_ids) + len(request.token_ids)
        check_length(num_prompt_tokens, request.sampling.max_tokens, self.limits.max_context)

    def submit(self, request: Request, context: TokenContext, *, keeps_context: bool) -> TokenSequence:
        """Queue a request; `keeps_context` says whether the context outlives it.

        Raises:
            UsageError, ContextLengthError: as `check`.
        """
        self.check(request, context)
        prompt_ids = (*context.token_ids, *request.token_ids) if request.sampling.has_penalties else ()
        sampler = Sampler(request.sampling, request.rules, prompt_ids, self._model.vocab_size)
        context.is_busy = True
        context.extend(request.token_ids)
        context.prepare_to_read()
        self._num_submitted += 1
        now = self._clock()
        sequence = TokenSequence(
            self._num_submitted, context, request, sampler, submitted_at=now, keeps_context=keeps_context
        )
        self._scheduler.add(sequence)
        return sequence

    def stream(
        self, request: Request, context: TokenContext, *, keeps_context: bool
    ) -> Generator[TokenEvent | FinishedEvent, None, None]:
        """Check a request now, run it as its events are asked for, and withdraw it if the iterator is closed.

        Raises:
            UsageError, ContextLengthError: as `check`.
        """
        self.check(request, context)
        return self._stream(request, context, keeps_context=keeps_context)

    def take_events(self) -> list[EngineEvent]:
        """Events of sequences that no iterator follows, since the last call."""
        events, self._events = self._events, []
        return events

    def advance(self) -> None:
        """Run one step and sample from what it yields."""
        self._sweep_cancelled()
        self._scheduler.admit()
        stuck = self._scheduler.stuck()
        if stuck is not None:
            self._fail_stuck(stuck)
            return
        work = self._scheduler.plan_step()
        if work and not self._run(work):
            return
        for sequence in self._scheduler.running:
            if sequence.phase == "decode" and sequence.context.logits_V is not None:
                self._sample(sequence, sequence.context.logits_V)

    def read_all_logits(self, request: Request) -> Tensor:
        """Logits after every token of a request, fp32 [T, vocab_size], by the path that generation takes.

        Raises:
            UsageError, ContextLengthError: as `check`.
            CapacityError: the free pages do not hold the tokens.
            CancelledError: the request was cancelled.
        """
        token_ids = request.token_ids
        with closing(SequenceCache(self.pool)) as cache:
            self.check(request, TokenContext(cache))
            needed = cache.pages_needed(len(token_ids))
            if needed > self._scheduler.num_spare_pages:
                raise _no_room(needed, self._scheduler.num_spare_pages)
            shape = (len(token_ids), self._model.vocab_size)
            logits_TV = torch.empty(shape, dtype=torch.float32, device=self.pool.device)
            while cache.length < len(token_ids):
                first, end = cache.length, chunk_end(cache.length, len(token_ids), self.limits.chunk_tokens)
                part = StepPart(cache, token_ids[first:end], "all")
                (logits_TV[first:end],) = run_step(
                    self._model, [part], is_cancelled=lambda: request.cancel.is_cancelled
                )
                if request.on_progress is not None:
                    request.on_progress(end, len(token_ids))
        return logits_TV

    def _stream(
        self, request: Request, context: TokenContext, *, keeps_context: bool
    ) -> Generator[TokenEvent | FinishedEvent, None, None]:
        sequence = self.submit(request, context, keeps_context=keeps_context)
        inbox = self._inboxes[sequence.number] = deque()
        try:
            while True:
                while not inbox:
                    self.advance()
                event = inbox.popleft()
                if isinstance(event, FailedEvent):
                    raise event.error
                yield event
                if isinstance(event, FinishedEvent):
                    return
        finally:
            if sequence.phase != "finished":
                self._finish(sequence, "cancelled")
            del self._inboxes[sequence.number]

    def _run(self, work: list[tuple[TokenSequence, int]]) -> bool:
        """Run a step; False when a request in it was cancelled, and the others' part is to be run again."""
        parts = []
        selections: list[list[tuple[int, Tensor]]] = []
        for sequence, num_tokens in work:
            context = sequence.context
            selections.append([])
            end = context.cache.length + num_tokens
            wanted: WantedRows = "last" if end == len(context.token_ids) else "none"
            token_ids = context.token_ids[context.cache.length : end]
            parts.append(StepPart(context.cache, token_ids, wanted, _collecting(selections[-1])))
        started = self._clock()
        try:
            logits = run_step(
                self._model, parts, is_cancelled=lambda: any(item.request.cancel.is_cancelled for item, _ in work)
            )
        except CancelledError:
            if self._sweep_cancelled() == 0:
                raise
            return False
        seconds = self._clock() - started
        for (sequence, num_tokens), logits_XV, selected in zip(work, logits, selections, strict=True):
            if logits_XV.shape[0] > 0:
                # A row of its own, so that a session does not keep the whole step's logits alive.
                sequence.context.logits_V = logits_XV[-1].clone()
                sequence.context.selections = tuple(selected)
            sequence.note_step(num_tokens, seconds)
        for sequence, _ in work:
            sequence.report_progress()
        return True

    def _sample(self, sequence: TokenSequence, logits_V: Tensor) -> None:
        if sequence.is_full(self.limits.max_context):
            self._finish(sequence, "length")
            return
        sequence.report_selections()
        started = self._clock()
        try:
            token_id = sequence.sampler.sample(logits_V, sequence.output_ids)
        except LonglensError as error:
            self._fail(sequence, error)
            return
        now = self._clock()
        meter = sequence.context.meter
        meter.decode_s += now - started
        if self._stops(sequence, token_id):
            self._finish(sequence, "stop", stop_token_id=token_id)
            return
        if meter.ttft_s is None:
            meter.ttft_s = now - sequence.submitted_at + sequence.seconds_read_ahead
        sequence.accept(token_id)
        self._tell(TokenEvent(sequence.number, token_id))
        if sequence.is_full(self.limits.max_context):
            self._finish(sequence, "length")

    def _stops(self, sequence: TokenSequence, token_id: int) -> bool:
        sampling = sequence.request.sampling
        return token_id in sampling.stop_ids or (token_id in self.limits.stop_ids and not sampling.ignore_eos)

    def _sweep_cancelled(self) -> int:
        cancelled = [sequence for sequence in self._scheduler.sequences if sequence.request.cancel.is_cancelled]
        for sequence in cancelled:
            self._finish(sequence, "cancelled")
        return len(cancelled)

    def _fail_stuck(self, sequence: TokenSequence) -> None:
        needed, spare = self._scheduler.pages_to_come(sequence), self._scheduler.num_spare_pages
        sequence.context.is_busy = False
        sequence.context.rewind(sequence.num_prompt_tokens - len(sequence.request.token_ids))
        self._fail(sequence, _no_room(needed, spare))

    def _fail(self, sequence: TokenSequence, error: LonglensError) -> None:
        self._leave(sequence)
        self._tell(FailedEvent(sequence.number, error))

    def _finish(self, sequence: TokenSequence, reason: FinishReason, *, stop_token_id: int | None = None) -> None:
        record = sequence.record(reason)
        self._leave(sequence)
        self._tell(FinishedEvent(sequence.number, record, stop_token_id))

    def _leave(self, sequence: TokenSequence) -> None:
        self._scheduler.remove(sequence)
        sequence.phase = "finished"
        sequence.context.is_busy = False
        if not sequence.keeps_context:
            sequence.context.close()
        elif sequence.max_new_tokens != 0:  # reading ahead belongs to the turn that follows
            sequence.context.start_turn()

    def _tell(self, event: EngineEvent) -> None:
        inbox = self._inboxes.get(event.sequence)
        if inbox is None:
            self._events.append(event)
        else:
            inbox.append(event)


def _collecting(selections: list[tuple[int, Tensor]]) -> SelectionObserver:
    return lambda layer, positions_K: selections.append((layer, positions_K))


def _no_room(needed: int, spare: int) -> CapacityError:
    return CapacityError(
        f"the request needs {needed} more pages of the cache, {spare} are free",
        "close a session, ask for fewer tokens (max_tokens), or give the cache more tokens (--context)",
    )
