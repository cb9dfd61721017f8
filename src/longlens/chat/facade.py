"""The Python surface: `load`, `LoadedModel`, `Session`.

Everything here belongs to one thread. Another thread, or a signal handler, may raise a `CancelFlag`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from torch import Tensor

from longlens.chat.answer_stream import AnswerStream
from longlens.chat.conversation import ChatOptions, Prompt, message_of
from longlens.chat.opening import OpenedModel, Opening, open_model
from longlens.chat.request import ChatEvent
from longlens.engine.events import FinishedEvent, TokenEvent
from longlens.engine.sampling import LogitsRule, SamplingParams
from longlens.engine.sequence import CancelFlag, Request
from longlens.engine.session import EngineSession
from longlens.errors import UsageError
from longlens.kernels.choose import KernelWish
from longlens.model.config import ModelConfig
from longlens.plan.plan import ComputeElement, Plan
from longlens.plan.planner import Wishes
from longlens.text.messages import Message

Prompted = str | Prompt | Sequence[Message | Mapping[str, str]]


@dataclass(frozen=True)
class Asking:
    """What a request may bring beside prompt and sampling.

    Attributes:
        chat: tools and template options, for messages.
        rules: applied to the logits of every token.
        cancel: raise it to stop within half a second; what was finished is kept.
        on_progress: called after each prefill chunk with the tokens read so far and all of them.
        on_selection: called for every token that is sampled from, once for each full layer, with the layer's number and
            the positions [K] (int32, -1 padded) that it attended to. Watching changes no token.
    """

    chat: ChatOptions = field(default_factory=ChatOptions)
    rules: Sequence[LogitsRule] = ()
    cancel: CancelFlag = field(default_factory=CancelFlag)
    on_progress: Callable[[int, int], None] | None = None
    on_selection: Callable[[int, Tensor], None] | None = None


def load(
    reference: str,
    *,
    device: str = "auto",
    context: int | None = None,
    dtype: ComputeElement | None = None,
    num_threads: int | None = None,
    strict: bool = False,
    kernels: KernelWish = "auto",
) -> LoadedModel:
    """Open a model.

    Args:
        reference: path of a .gguf file, a .safetensors file, or a folder.
        device: "auto", "cpu", or a CUDA device.
        context: most tokens of a sequence; the model's own length (at most 262,144), as far as it fits, if None.
        dtype: "f32", "bf16" or "f16" for weights and activations; None takes f32 where it fits easily.
        num_threads: threads for arithmetic; one a core if None.
        strict: unknown configuration keys and tensors are errors.
        kernels: "native" insists on the C++ library, "plain" on torch alone; "auto" takes the library where there is
            one.

    Raises:
        ModelNotFoundError, FormatError, UnsupportedModelError, ConfigError, ParameterError: the files.
        UsageError: the device or the kernels are unknown or not there.
        CapacityError, ContextLengthError: the plan.
    """
    wishes = Wishes(context=context, compute_element=dtype, num_threads=num_threads)
    return LoadedModel(open_model(Opening(reference, device, wishes, is_strict=strict, kernels=kernels)))


class LoadedModel:
    """A model that answers. Close it, or use it in a `with` block."""

    def __init__(self, opened: OpenedModel) -> None:
        """Wrap an opened model; `load` is the way here."""
        self._opened: OpenedModel | None = opened

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def opened(self) -> OpenedModel:
        """All parts of the model.

        Raises:
            UsageError: the model is closed.
        """
        if self._opened is None:
            raise UsageError("the model is closed", "load it again")
        return self._opened

    @property
    def config(self) -> ModelConfig:
        """What the checkpoint says."""
        return self.opened.config

    @property
    def plan(self) -> Plan:
        """How it runs here."""
        return self.opened.plan

    def encode(self, prompt: Prompted, options: ChatOptions | None = None) -> Prompt:
        """Turn text (taken as it is) or messages (through the chat template) into a prompt; a prompt is one already.

        A message is a `Message`, or a mapping with `role` and `content`.

        Raises:
            TemplateError: the checkpoint has no chat template, or it refuses the messages.
            UsageError: text that the vocabulary cannot spell, or template options for text.
        """
        if isinstance(prompt, Prompt):
            return prompt
        conversation = self.opened.conversation
        if not isinstance(prompt, str):
            return conversation.prompt_of_messages([message_of(turn) for turn in prompt], options)
        if options is not None and (options.tools or options.template):
            raise UsageError("tools and template options are for messages", "give a list of messages")
        return conversation.prompt_of_text(prompt)

    def generate(
        self, prompt: Prompted, params: SamplingParams | None = None, asking: Asking | None = None
    ) -> Iterator[ChatEvent]:
        """Answer a prompt.

        The request is checked now and runs as events are asked for.

        Args:
            prompt: text to go on with, or messages.
            params: how tokens are chosen; greedy if None.
            asking: tools, rules, cancellation, progress.

        Returns:
            ReasoningDelta, TextDelta and ToolCallDelta events, then one Finished.

        Raises:
            UsageError, TemplateError, ContextLengthError: as `encode`, and prompts that are empty or too long.
        """
        asking = asking or Asking()
        encoded = self.encode(prompt, asking.chat)
        request = Request(
            encoded.token_ids,
            params or SamplingParams(),
            asking.rules,
            asking.cancel,
            asking.on_progress,
            asking.on_selection,
        )
        return self._told(self.opened.engine.generate(request), encoded)

    def logits(self, token_ids: Sequence[int]) -> Tensor:
        """Logits after every token, fp32 [T, vocab], by the same path as generation.

        Raises:
            UsageError, ContextLengthError, CapacityError: the tokens do not fit or are not the model's.
        """
        return self.opened.engine.logits(token_ids)

    def session(self) -> Session:
        """Begin a sequence that is kept between requests."""
        return Session(self, self.opened.engine.session())

    def close(self) -> None:
        """Free weights and cache; a second call does nothing."""
        self._opened = None

    def _told(self, events: Generator[TokenEvent | FinishedEvent, None, None], prompt: Prompt) -> Iterator[ChatEvent]:
        return iter(AnswerStream(events, prompt, self.opened))


class Session:
    """A sequence that is kept: extend, answer, fork, rewind. Made by `LoadedModel.session`."""

    def __init__(self, model: LoadedModel, inner: EngineSession) -> None:
        """Wrap an engine's session."""
        self._model = model
        self._inner = inner

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens so far."""
        return self._inner.tokens

    def extend(self, token_ids: Sequence[int]) -> None:
        """Append tokens and read them.

        Raises:
            UsageError, ContextLengthError, CapacityError: nothing was appended.
        """
        self._inner.extend(token_ids)

    def logits(self) -> Tensor:
        """fp32 logits [vocab] after the last token."""
        return self._inner.logits()

    def generate(self, params: SamplingParams | None = None, asking: Asking | None = None) -> Iterator[ChatEvent]:
        """Answer after the last token; what is answered becomes part of the session.

        Raises:
            UsageError, ContextLengthError: the session is empty, closed or full.
        """
        asking = asking or Asking()
        prompt = self._model.opened.conversation.prompt_of_tokens(self.tokens, asking.chat.tools)
        events = self._inner.generate(
            params or SamplingParams(),
            rules=asking.rules,
            cancel=asking.cancel,
            on_progress=asking.on_progress,
            on_selection=asking.on_selection,
        )
        return iter(AnswerStream(events, prompt, self._model.opened))

    def fork(self) -> Session:
        """A second session with the same tokens; nothing is read again."""
        return Session(self._model, self._inner.fork())

    def rewind(self, num_tokens: int) -> None:
        """Forget all but the first `num_tokens` tokens."""
        self._inner.rewind(num_tokens)

    def close(self) -> None:
        """Free the pages; a second call does nothing."""
        self._inner.close()
