"""One request: what it asks for, how far it is, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from longlens.engine.sampling import LogitsRule, Sampler, SamplingParams
from longlens.engine.token_context import TokenContext
from longlens.engine.turn_record import FinishReason, TurnRecord
from longlens.errors import ContextLengthError, UsageError

Phase = Literal["waiting", "prefill", "decode", "finished"]


class CancelFlag:
    """Asks a request to stop. Any thread or signal handler may raise it; it is looked at between layers."""

    def __init__(self) -> None:
        self._is_raised = False

    def cancel(self) -> None:
        """Ask to stop; there is no way back."""
        self._is_raised = True  # one store: safe without a lock, which a signal handler must not take

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return self._is_raised


@dataclass(frozen=True)
class Request:
    """What a caller wants of the engine.

    Attributes:
        token_ids: tokens to read before answering; in a session, those that are new.
        sampling: how the answer's tokens are chosen.
        rules: applied to the logits of every token of the answer, in this order.
        cancel: raise it to stop within half a second; what was finished is kept.
        on_progress: called after each step that reads, with the tokens read so far and all that this request reads.
        on_selection: called for every token that is sampled from, once for each full layer, with the layer's number and
            the positions [K] (int32, -1 padded) that the token attended to. Watching changes no token.
    """

    token_ids: Sequence[int] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    rules: Sequence[LogitsRule] = ()
    cancel: CancelFlag = field(default_factory=CancelFlag)
    on_progress: Callable[[int, int], None] | None = None
    on_selection: Callable[[int, Tensor], None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_ids", tuple(self.token_ids))


class TokenSequence:
    """A request at work on a context: waiting -> prefill -> decode -> finished.

    Attributes:
        number: names it in events.
        context: its tokens and their rows.
        request: what was asked for.
        sampler: chooses its tokens.
        submitted_at: when it was queued, by the engine's clock.
        keeps_context: whether the context outlives it, as a session's does.
        output_ids: tokens sampled so far.
        phase: where it stands.
    """

    def __init__(
        self,
        number: int,
        context: TokenContext,
        request: Request,
        sampler: Sampler,
        *,
        submitted_at: float,
        keeps_context: bool,
    ) -> None:
        """Queue a request; its tokens are in the context already."""
        self.number = number
        self.context = context
        self.request = request
        self.sampler = sampler
        self.submitted_at = submitted_at
        self.keeps_context = keeps_context
        self.output_ids: list[int] = []
        self.phase: Phase = "waiting"
        self.num_prompt_tokens = len(context.token_ids)
        self.num_to_read = context.num_unread
        self.num_read = 0
        self.seconds_read_ahead = context.meter.prefill_s

    @property
    def max_new_tokens(self) -> int | None:
        """Most tokens to sample, None for as many as the context holds."""
        return self.request.sampling.max_tokens

    def final_rows(self, max_context: int) -> int:
        """Rows that the cache holds at the end at most; the last token's row is never computed."""
        if self.max_new_tokens is None:
            return max_context - 1
        return self.num_prompt_tokens + max(self.max_new_tokens - 1, 0)

    def is_full(self, max_context: int) -> bool:
        """Whether no further token may be sampled."""
        has_all = self.max_new_tokens is not None and len(self.output_ids) >= self.max_new_tokens
        return has_all or len(self.context.token_ids) >= max_context

    def begin(self) -> None:
        """Leave the queue."""
        self.phase = "prefill" if self.num_to_read else "decode"

    def note_step(self, num_tokens: int, seconds: float) -> None:
        """Count a step in which rows of this sequence were computed."""
        if self.phase != "prefill":
            self.context.meter.decode_s += seconds
            return
        self.context.meter.prefill_s += seconds
        self.context.meter.read_tokens += num_tokens
        self.num_read += num_tokens
        if self.context.num_unread == 0:
            self.phase = "decode"

    def report_progress(self) -> None:
        """Tell the caller how much is read, while it is being read."""
        if self.request.on_progress is not None and not self.output_ids and self.num_read:
            self.request.on_progress(self.num_read, self.num_to_read)

    def report_selections(self) -> None:
        """Tell the caller what the row selected that the next token is sampled from, whichever request read it."""
        if self.request.on_selection is not None:
            for layer, positions_K in self.context.selections:
                self.request.on_selection(layer, positions_K)

    def accept(self, token_id: int) -> None:
        """Add a sampled token; its row is computed by the next step, or the next turn."""
        self.output_ids.append(token_id)
        self.context.extend((token_id,))

    def record(self, finish_reason: FinishReason) -> TurnRecord:
        """Counts and times of the turn, as it ends."""
        return self.context.meter.record(
            prompt_tokens=self.num_prompt_tokens,
            completion_tokens=len(self.output_ids),
            finish_reason=finish_reason,
        )


def check_token_ids(token_ids: Sequence[int], vocab_size: int) -> None:
    """Refuse tokens that the model does not know.

    Raises:
        UsageError: a token id lies outside the vocabulary.
    """
    for bad in (min(token_ids, default=0), max(token_ids, default=0)):
        if not 0 <= bad < vocab_size:
            raise UsageError(
                f"token id {bad} is not in the vocabulary of {vocab_size}", "use the tokenizer of this checkpoint"
            )


def check_length(num_prompt_tokens: int, max_tokens: int | None, max_context: int) -> None:
    """Refuse, before any work, what the context cannot hold.

    Raises:
        UsageError: there is no prompt.
        ContextLengthError: prompt and answer are longer than the context; an answer without a limit needs room for one
            token.
    """
    if num_prompt_tokens == 0:
        raise UsageError("the prompt is empty", "give at least one token")
    num_answer_tokens = 1 if max_tokens is None else max_tokens
    if num_prompt_tokens + num_answer_tokens <= max_context:
        return
    room = max_context - num_prompt_tokens
    shorter = f"ask for at most {room} tokens, or " if room > 0 and num_answer_tokens > 1 else "shorten the prompt, or "
    raise ContextLengthError(
        f"{num_prompt_tokens} tokens of prompt and {num_answer_tokens} of answer do not fit a context of {max_context}",
        f"{shorter}load the model with --context {num_prompt_tokens + num_answer_tokens}",
    )
