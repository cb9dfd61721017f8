"""A conversation that goes on: its messages, and the one session that has read them.

Before each answer the conversation is rendered anew and compared with what the session holds. The session is rewound to
where the two part, and reads only what follows. So a new message, another answer to the same message (`answer_again`)
and an earlier state (`rewind`) all find their tokens in the cache. A template that leaves out the reasoning of earlier
turns, as GLM's does, makes the conversation part from the session where that reasoning began.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import NamedTuple

from longlens.chat.answer_stream import AnswerStream
from longlens.chat.conversation import ChatOptions, Prompt
from longlens.chat.facade import Asking, LoadedModel
from longlens.chat.request import ChatEvent, Finished
from longlens.engine.sampling import SamplingParams
from longlens.errors import ContextLengthError, LonglensError, UsageError
from longlens.text.messages import Message, ToolCall
from longlens.text.reply import ReasoningDelta, TextDelta
from longlens.text.tokenizer import Tokenizer


class FileSpan(NamedTuple):
    """Where a file's text lies in a question, in characters.

    Attributes:
        name: what the file is called.
        start: where what belongs to it begins, its heading included.
        body_start: where its own text begins.
        body_end: where its own text ends.
    """

    name: str
    start: int
    body_start: int
    body_end: int

    def moved(self, distance: int) -> FileSpan:
        """The same file in a question that has so many characters more before it."""
        return FileSpan(self.name, *(place + distance for place in self[1:]))


@dataclass(frozen=True)
class Exchange:
    """A question and its answer.

    Attributes:
        question: what the user said.
        answer: what the model said, as far as it came; None where it was stopped before it said anything.
        num_tokens: tokens of the conversation at the end of this exchange.
        files: the files whose text is in the question, in order.
    """

    question: str
    answer: Message | None = None
    num_tokens: int = 0
    files: tuple[FileSpan, ...] = ()


class Dialogue:
    """A conversation with one model. Close it, or use it in a `with` block."""

    def __init__(self, model: LoadedModel, *, system: str | None = None, options: ChatOptions | None = None) -> None:
        """Begin a conversation.

        Raises:
            TemplateError: the checkpoint has no chat template, or it refuses the system message.
            UsageError: an option that the template does not read.
        """
        self._model = model
        self._system = () if system is None else (Message("system", system),)
        self._options = options or ChatOptions()
        model.encode((*self._system, Message("user", "hello")), self._options)
        self._session = model.opened.engine.session()
        self._exchanges: tuple[Exchange, ...] = ()

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Questions and answers, oldest first."""
        return self._exchanges

    @property
    def is_unanswered(self) -> bool:
        """Whether the last question has no answer, because it was stopped before one began."""
        return bool(self._exchanges) and self._exchanges[-1].answer is None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation."""
        return self._messages_of(self._exchanges)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Tokens that the session holds; while an answer's first token is made, those of its prompt."""
        return self._session.tokens

    @property
    def index_topk(self) -> int | None:
        """Most positions that a token attends to; None where the model has no indexer and attends to all."""
        indexer = self._model.config.indexer
        return None if indexer is None else indexer.index_topk

    @property
    def num_tokens(self) -> int:
        """Tokens of the conversation when its last exchange ended; 0 before the first."""
        return self._exchanges[-1].num_tokens if self._exchanges else 0

    @property
    def cached_tokens(self) -> int:
        """Tokens whose rows the session holds, those of a dropped turn included until something else is said."""
        return self._session.cached_tokens

    @property
    def max_context(self) -> int:
        """Most tokens that the conversation can have."""
        return self._model.opened.engine.limits.max_context

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has.

        Raises:
            UsageError: text that the vocabulary cannot spell.
        """
        return len(self._model.opened.conversation.tokenizer.encode(text))

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for."""
        return self._model.opened.conversation.tokenizer.token_bytes(token_id)

    def spell(self, exchanges: Sequence[Exchange]) -> bytes:
        """The bytes of the prompt that other exchanges would make, with this system text, template and options.

        Raises:
            UsageError, TemplateError: text that cannot be spelled, or that the template refuses.
        """
        prompt = self._model.encode(self._messages_of(exchanges), self._options)
        return b"".join(map(self.token_bytes, prompt.token_ids))

    def ask(
        self, text: str, params: SamplingParams, asking: Asking, files: Sequence[FileSpan] = ()
    ) -> Generator[ChatEvent, None, None]:
        """Say something and hear the answer.

        The message is checked now; a message that is refused changes nothing. Where the last question is unanswered,
        the text is added to it.

        Args:
            text: what the user says.
            params: how tokens are chosen. The answer ends where the context does, whatever `max_tokens` says.
            asking: rules, cancellation, progress, selections; tools and template options are the dialogue's own.
            files: the files whose text is in `text`, in order.

        Returns:
            ReasoningDelta, TextDelta and ToolCallDelta events, then one Finished. Whatever was said by then, when the
            iterator is closed or the request cancelled, is part of the conversation.

        Raises:
            ContextLengthError: conversation and message leave no room for an answer.
            UsageError, TemplateError: text that cannot be spelled, or that the template refuses.
            CancelledError: cancelled while reading; what was read is kept, and the question waits; from the iterator.
        """
        before = self._exchanges
        if self.is_unanswered:
            waiting = f"{before[-1].question}\n\n"
            moved = (file.moved(len(waiting)) for file in files)
            question = Exchange(waiting + text, None, before[-1].num_tokens, (*before[-1].files, *moved))
            self._exchanges = (*before[:-1], question)
        else:
            self._exchanges = (*before, Exchange(text, files=tuple(files)))
        return self._checked_answer(before, params, asking)

    def answer_again(self, params: SamplingParams, asking: Asking) -> Generator[ChatEvent, None, None]:
        """Answer the last question anew, or for the first time. The prompt is not read again.

        One row is computed anew, the last one: its logits were given up when the first answer began.

        Raises:
            UsageError: nothing was asked yet.
            Others: as `ask`.
        """
        before = self._exchanges
        if not before:
            raise UsageError("there is no question yet", "ask something first")
        self._exchanges = (*before[:-1], Exchange(before[-1].question, files=before[-1].files))
        return self._checked_answer(before, params, asking)

    def rewind(self, num_exchanges: int) -> int:
        """Drop the last exchanges; the rows of what is left stay in the cache.

        Returns:
            How many were dropped: all, where there are fewer.

        Raises:
            UsageError: less than one.
        """
        if num_exchanges < 1:
            raise UsageError(f"{num_exchanges} turns cannot be dropped", "drop one or more")
        before = len(self._exchanges)
        self._exchanges = self._exchanges[: max(0, before - num_exchanges)]
        return before - len(self._exchanges)

    def close(self) -> None:
        """Free the pages; a second call does nothing."""
        self._session.close()

    def _checked_answer(
        self, before: tuple[Exchange, ...], params: SamplingParams, asking: Asking
    ) -> Generator[ChatEvent, None, None]:
        try:
            prompt = self._prompt()
        except LonglensError:
            self._exchanges = before
            raise
        if params.max_tokens is not None:
            params = replace(params, max_tokens=min(params.max_tokens, self.max_context - len(prompt.token_ids)))
        return self._answer(prompt, params, asking)

    def _prompt(self) -> Prompt:
        prompt = self._model.encode(self.messages, self._options)
        num_tokens = len(prompt.token_ids)
        if num_tokens >= self.max_context:
            raise ContextLengthError(
                f"the conversation has {num_tokens} tokens with this message, "
                f"a context of {self.max_context} leaves no room for an answer",
                self._more_room(num_tokens + 1),
            )
        spelled = adopt_spelling(prompt.token_ids, self._session.tokens, self._model.opened.conversation.tokenizer)
        # The model's own spelling of its words may be the longer one.
        return replace(prompt, token_ids=spelled) if len(spelled) < self.max_context else prompt

    def _more_room(self, needed: int) -> str:
        longest = self._model.config.max_position_embeddings
        shorter = "drop earlier turns, or say less"
        return f"{shorter}, or load the model with --context {needed} or more" if needed <= longest else shorter

    def _answer(self, prompt: Prompt, params: SamplingParams, asking: Asking) -> Generator[ChatEvent, None, None]:
        answer = _Answer()
        try:
            self._read(prompt.token_ids, asking)
            events = self._session.generate(
                params,
                rules=asking.rules,
                cancel=asking.cancel,
                on_progress=asking.on_progress,
                on_selection=asking.on_selection,
            )
            for event in AnswerStream(events, prompt, self._model.opened):
                answer.take(event)
                yield event
        finally:
            said = answer.message()
            last = replace(self._exchanges[-1], answer=said, num_tokens=len(self._session.tokens))
            self._exchanges = (*self._exchanges[:-1], last)

    def _read(self, token_ids: Sequence[int], asking: Asking) -> None:
        common = common_prefix(token_ids, self._session.tokens)
        self._session.rewind(common)
        self._session.extend(token_ids[common:], cancel=asking.cancel, on_progress=asking.on_progress)

    def _messages_of(self, exchanges: Sequence[Exchange]) -> tuple[Message, ...]:
        turns = list(self._system)
        for exchange in exchanges:
            turns.append(Message("user", exchange.question))
            if exchange.answer is not None:
                turns.append(exchange.answer)
        return tuple(turns)


@dataclass
class _Answer:
    """What came of an answer so far."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    is_whole: bool = False

    def take(self, event: ChatEvent) -> None:
        if isinstance(event, Finished):
            self.is_whole = event.finish_reason != "cancelled"
        elif isinstance(event, TextDelta):
            self.text.append(event.text)
        elif isinstance(event, ReasoningDelta):
            self.reasoning.append(event.text)
        else:
            _, _, arguments = self.calls.get(event.index, ("", "", ""))
            self.calls[event.index] = (event.id, event.name, arguments + event.arguments)

    def message(self) -> Message | None:
        """The answer as a message; None where nothing was said and the model did not end of itself."""
        if not (self.is_whole or self.text or self.reasoning or self.calls):
            return None
        reasoning = "".join(self.reasoning) or None
        return Message("assistant", "".join(self.text), reasoning, tuple(self._whole_calls()))

    def _whole_calls(self) -> Generator[ToolCall, None, None]:
        for call_id, name, arguments in self.calls.values():
            try:
                yield ToolCall(call_id, name, arguments)
            except UsageError:  # cut off in the middle of its arguments: no call
                continue


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    pairs = zip(left, right, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


def adopt_spelling(token_ids: Sequence[int], known: Sequence[int], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Spell a prompt as it is spelled in tokens that are known, as far as the two say the same.

    A model may write a word in other tokens than the tokenizer would. What stands between two control tokens is taken
    from `known` if its bytes are the same; the first that differs ends it.
    """
    ours, theirs = _runs(token_ids, tokenizer), _runs(known, tokenizer)
    spelled: list[int] = []
    for place, run in enumerate(ours):
        if place >= len(theirs) or _bytes_of(run, tokenizer) != _bytes_of(theirs[place], tokenizer):
            return (*spelled, *(token_id for rest in ours[place:] for token_id in rest))
        spelled += theirs[place]
    return tuple(spelled)


def _runs(token_ids: Sequence[int], tokenizer: Tokenizer) -> list[list[int]]:
    """Control tokens, each by itself, and the runs of text between them."""
    runs: list[list[int]] = []
    follows_text = False
    for token_id in token_ids:
        is_text = token_id not in tokenizer.special_ids
        if is_text and follows_text:
            runs[-1].append(token_id)
        else:
            runs.append([token_id])
        follows_text = is_text
    return runs


def _bytes_of(run: Sequence[int], tokenizer: Tokenizer) -> tuple[bool, bytes]:
    is_control = run[0] in tokenizer.special_ids
    return is_control, b"".join(map(tokenizer.token_bytes, run))
