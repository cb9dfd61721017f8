"""Where messages become token ids, with the tokenizer and template that a checkpoint carries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from longlens.errors import ConfigError, FormatError, TemplateError, UsageError
from longlens.formats.checkpoint import Checkpoint
from longlens.text.messages import Message, Role, Tool
from longlens.text.reply import THINK, opens_reasoning
from longlens.text.segments import Segment
from longlens.text.template import ChatTemplate, templates_of_checkpoint, templates_of_gguf
from longlens.text.tokenizer import Tokenizer

# Stands for a message while its frame is found: letters only, so that no template trims or breaks it.
_STAND_IN = "LonglensPutsTheMessageHere"
_SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class Prompt:
    """Token ids to read, and whether the answer begins in the middle of reasoning."""

    token_ids: tuple[int, ...]
    starts_in_reasoning: bool
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class PromptFrame:
    """What a chat template writes around one message: token ids before and after it."""

    head_ids: tuple[int, ...]
    tail_ids: tuple[int, ...]
    starts_in_reasoning: bool

    def around(self, token_ids: Sequence[int]) -> Prompt:
        """Put a message's token ids into the frame."""
        return Prompt((*self.head_ids, *token_ids, *self.tail_ids), self.starts_in_reasoning)


@dataclass(frozen=True)
class ChatOptions:
    """What a chat template can be told beside the messages.

    Attributes:
        tools: functions that the model may call.
        template: options by name, such as `enable_thinking`; one that the template does not read is an error.
    """

    tools: tuple[Tool, ...] = ()
    template: Mapping[str, object] = field(default_factory=dict)


class Conversation:
    """The text side of a model: what turns conversations into prompts."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        """Hold a tokenizer and a template of one checkpoint."""
        self.tokenizer = tokenizer
        self.template = template

    def prompt_of_text(self, text: str) -> Prompt:
        """Read text as the beginning of a document that the model goes on with; no template is used.

        Raises:
            UsageError: text that the vocabulary cannot spell.
        """
        return self.prompt_of_tokens((*self.tokenizer.start_ids, *self.tokenizer.encode(text)))

    def prompt_of_messages(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Prompt:
        """Render a conversation up to where the assistant speaks next.

        Raises:
            TemplateError: the checkpoint has no chat template, or it refuses the messages.
            UsageError: an option that the template does not read.
        """
        options = options or ChatOptions()
        segments = self.template.render(messages, tools=options.tools, options=options.template)
        return Prompt(tuple(self.tokenizer.encode_rendered(segments)), opens_reasoning(segments), options.tools)

    def frame(self, system_text: str, options: ChatOptions | None = None) -> PromptFrame:
        """Find what stands around a user message, for messages that are tokenised piece by piece.

        Without a chat template, the system text stands before the message and nothing after it.

        Raises:
            TemplateError: the template does not write a message's text as it is, once.
        """
        if not self.template.exists:
            return PromptFrame((*self.tokenizer.start_ids, *self.tokenizer.encode(f"{system_text}\n\n")), (), False)
        options = options or ChatOptions()
        messages = [Message("system", system_text), Message("user", _STAND_IN)]
        segments = self.template.render(messages, tools=options.tools, options=options.template)
        found = [
            (number, segment.text.partition(_STAND_IN))
            for number, segment in enumerate(segments)
            if _STAND_IN in segment.text
        ]
        if len(found) != 1 or found[0][1][2].count(_STAND_IN):
            raise TemplateError(
                "the chat template does not write a message's text once and as it is",
                "a pack cannot be framed by it; put a plainer template into chat_template.jinja beside the checkpoint",
            )
        number, (before, _, after) = found[0]
        encode = self.tokenizer.encode_rendered
        return PromptFrame(
            tuple(encode([*segments[:number], Segment(before)])),
            tuple(encode([Segment(after), *segments[number + 1 :]])),
            opens_reasoning(segments),
        )

    def prompt_of_tokens(self, token_ids: Sequence[int], tools: tuple[Tool, ...] = ()) -> Prompt:
        """Take token ids as they are."""
        think = self._think_id()
        return Prompt(tuple(token_ids), think is not None and tuple(token_ids[-1:]) == (think,), tools)

    def _think_id(self) -> int | None:
        return self.tokenizer.id_of(THINK) if THINK in self.tokenizer.control.spellings else None


def message_of(turn: Message | Mapping[str, str]) -> Message:
    """Take a message as it is, or make one of a mapping with `role` and `content`.

    Raises:
        UsageError: an unknown role, or a key that a plain message does not have.
    """
    if isinstance(turn, Message):
        return turn
    unknown = set(turn) - {"role", "content"}
    if unknown or not {"role", "content"} <= set(turn):
        raise UsageError(
            f"a message has the keys {', '.join(sorted(turn))}",
            'give {"role": "user", "content": "…"}, or a longlens.Message for what goes beyond it',
        )
    return Message(cast(Role, turn["role"]), turn["content"])


def conversation_of(checkpoint: Checkpoint) -> Conversation:
    """Read tokenizer and chat template of a checkpoint.

    Raises:
        FormatError: the checkpoint has no tokenizer, or a file of it is not JSON.
        UnsupportedModelError: a tokenizer that longlens does not know.
        TemplateError: the chat template is not a text.
    """
    if checkpoint.layout == "gguf":
        tokenizer = Tokenizer.from_gguf(checkpoint.metadata)
        templates = templates_of_gguf(checkpoint.metadata)
        names = _names_from_gguf(checkpoint.metadata)
    else:
        config = json_file(checkpoint, "tokenizer_config.json") or {}
        tokenizer = _tokenizer_of_folder(checkpoint, config)
        template = checkpoint.side_file("chat_template.jinja")
        templates = templates_of_checkpoint(template.decode("utf-8", "replace") if template else None, config)
        names = {key: _token_text(config[key]) for key in _SPECIAL_TOKENS if config.get(key) is not None}
    return Conversation(tokenizer, ChatTemplate(templates, tokenizer.control, special_tokens=names))


def _tokenizer_of_folder(checkpoint: Checkpoint, config: Mapping[str, object]) -> Tokenizer:
    data = checkpoint.side_file("tokenizer.json")
    if data is None:
        raise FormatError(
            f"{checkpoint.path} has no tokenizer.json", "download the tokenizer's files of the checkpoint too"
        )
    generation = json_file(checkpoint, "generation_config.json") or {}
    ends = generation.get("eos_token_id", checkpoint.metadata.get("eos_token_id"))
    stop_ids = []
    for token_id in ends if isinstance(ends, list) else [] if ends is None else [ends]:
        if isinstance(token_id, bool) or not isinstance(token_id, int):
            raise ConfigError(f"eos_token_id names {token_id!r}, not a token id", "mend generation_config.json")
        stop_ids.append(token_id)
    return Tokenizer.from_json(data, config=config, stop_ids=stop_ids)


def _names_from_gguf(metadata: Mapping[str, object]) -> dict[str, str]:
    tokens = metadata.get("tokenizer.ggml.tokens")
    names = {}
    for key, gguf in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"), ("unk_token", "unknown")):
        token_id = metadata.get(f"tokenizer.ggml.{gguf}_token_id")
        if isinstance(tokens, Sequence) and isinstance(token_id, int) and 0 <= token_id < len(tokens):
            names[key] = str(tokens[token_id])
    return names


def _token_text(value: object) -> str:
    return str(value.get("content", "")) if isinstance(value, Mapping) else str(value)


def json_file(checkpoint: Checkpoint, name: str) -> Mapping[str, object] | None:
    """Read a JSON object beside a checkpoint's weights; None where there is no such file.

    Raises:
        FormatError: the file is not a JSON object.
    """
    data = checkpoint.side_file(name)
    if data is None:
        return None
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name} is not JSON: {error}", "download the file again") from error
    if not isinstance(parsed, dict):
        raise FormatError(f"{name} is JSON, but not an object", "download the file again")
    return parsed
