"""Messages to the text a model was trained on, by the chat template that its checkpoint carries.

Control tokens come out as segments of their own, and only where the template wrote them (see `shield`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import jinja2
from jinja2 import meta, nodes

from longlens.errors import TemplateError, UsageError
from longlens.text.messages import Message, Tool
from longlens.text.sandbox import STAND_INS, STEP, Steps, TemplateEnvironment, TemplateRefusalError
from longlens.text.segments import ControlTokens, Segment
from longlens.text.shield import Shield, strings_of

DEFAULT = "default"
WITH_TOOLS = "tool_use"
MAX_OUTPUT_CHARACTERS = 64 * 1024**2

_GIVEN = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token"})
# What Python raises when a template does to a value what the value cannot do.
_FAILURES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def templates_of_checkpoint(file: str | None, config: Mapping[str, object]) -> dict[str, str]:
    """Find the chat templates of a Hugging Face folder, by name.

    Args:
        file: the text of chat_template.jinja, which goes before the configuration; None where there is none.
        config: tokenizer_config.json.

    Returns:
        Templates by name, most often one named `default`; empty where the checkpoint has none.

    Raises:
        TemplateError: `chat_template` is neither a text nor a list of named texts.
    """
    named = _named(config.get("chat_template"))
    return named | {DEFAULT: file} if file is not None else named


def templates_of_gguf(metadata: Mapping[str, object]) -> dict[str, str]:
    """Find the chat templates in GGUF metadata: `tokenizer.chat_template`, and `tokenizer.chat_template.NAME`.

    Raises:
        TemplateError: one of them is not a text.
    """
    key = "tokenizer.chat_template"
    found = {name.removeprefix(key + "."): text for name, text in metadata.items() if name.startswith(key + ".")}
    if key in metadata:
        found[DEFAULT] = metadata[key]
    return _named([{"name": name, "template": text} for name, text in found.items()])


def _named(value: object) -> dict[str, str]:
    if value is None:
        return {}
    entries = [{"name": DEFAULT, "template": value}] if isinstance(value, str) else value
    templates = {}
    for entry in entries if isinstance(entries, list) else [None]:
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise TemplateError(
                "the checkpoint's chat_template is neither a text nor a list of named texts",
                "put the template into chat_template.jinja beside the checkpoint",
            )
        templates[name] = text
    return templates


class ChatTemplate:
    """Renders conversations.

    Args:
        templates: sources by name (`templates_of_checkpoint`, `templates_of_gguf`). `tool_use` is taken when tools
            are given and it exists, `default` otherwise. Without any, every rendering is refused, and prompts in
            plain text still work.
        control: the vocabulary's control tokens (`Tokenizer.control`).
        special_tokens: `bos_token`, `eos_token` and their like, which templates may print.
        clock: tells a template that asks the time.
    """

    def __init__(
        self,
        templates: Mapping[str, str],
        control: ControlTokens,
        *,
        special_tokens: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._templates = dict(templates)
        self._control = control
        self._special_tokens = dict(special_tokens or {})
        self._environment = TemplateEnvironment(clock)
        # Compiled when they are first used: a template that cannot be read must not keep anybody from plain prompts.
        self._compiled: dict[str, jinja2.Template] = {}

    @property
    def exists(self) -> bool:
        """The checkpoint has a template, so that it can be chatted with."""
        return bool(self._templates)

    def options(self, *, with_tools: bool = False) -> frozenset[str]:
        """Return the names that the template reads beside the messages, such as `enable_thinking`.

        Raises:
            TemplateError: there is no template, or it cannot be read.
        """
        try:
            tree = self._environment.parse(self._source(with_tools=with_tools))
        except (jinja2.TemplateError, *_FAILURES) as error:
            raise _unreadable(error) from error
        return (
            frozenset(meta.find_undeclared_variables(tree) - _own_names(tree))
            - _GIVEN
            - self._environment.globals.keys()
        )

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        add_generation_prompt: bool = True,
        options: Mapping[str, object] | None = None,
    ) -> list[Segment]:
        """Write a conversation the way the model expects it.

        Args:
            messages: the turns, oldest first.
            tools: what the model may call.
            add_generation_prompt: end with what begins the assistant's next turn.
            options: what the template reads beside (`enable_thinking`, `reasoning_effort`, `clear_thinking`, …).

        Returns:
            Text and control tokens, for `Tokenizer.encode_rendered`. Whatever a message, a tool or an option spells
            is text.

        Raises:
            TemplateError: there is no template, it cannot be read, or it refuses the messages.
            UsageError: an option that the template does not read.
        """
        options = options or {}
        source = self._source(with_tools=bool(tools))
        self._check_options(options, with_tools=bool(tools))
        turns = [_as_template_sees(message, lambda value: value) for message in messages]
        functions = [{"type": "function", "function": tool.function} for tool in tools]
        shield = Shield(self._control.spellings, (source, *strings_of([turns, functions, dict(options)])))
        variables = {
            **self._special_tokens,
            **{name: shield.cover_all(value, are_names=False) for name, value in options.items()},
            "messages": [_as_template_sees(message, shield.cover_all) for message in messages],
            "tools": shield.cover_all(functions, are_names=False) if functions else None,
            "add_generation_prompt": add_generation_prompt,
            STAND_INS: shield.stand_ins,
            STEP: Steps(),
        }
        rendered = self._run(source, variables, shield)
        return [
            segment if segment.is_control else Segment(shield.uncover(segment.text))
            for segment in self._control.split(rendered)
        ]

    def _source(self, *, with_tools: bool) -> str:
        name = WITH_TOOLS if with_tools and WITH_TOOLS in self._templates else DEFAULT
        if name not in self._templates:
            raise TemplateError(
                f"this checkpoint has no chat template named {name!r}"
                if self._templates
                else "this checkpoint has no chat template, so it cannot chat",
                "give a prompt in plain text, or put the template into chat_template.jinja beside the checkpoint",
            )
        return self._templates[name]

    def _check_options(self, options: Mapping[str, object], *, with_tools: bool) -> None:
        known = self.options(with_tools=with_tools) if options else frozenset()
        for name in options:
            if name not in known:
                raise UsageError(
                    f"the chat template does not read the option {name!r}",
                    f"it reads {', '.join(sorted(known))}" if known else "it reads no options",
                )

    def _compile(self, source: str) -> jinja2.Template:
        if source not in self._compiled:
            try:
                self._compiled[source] = self._environment.compile_counted(source)
            except (jinja2.TemplateError, SyntaxError, *_FAILURES) as error:
                raise _unreadable(error) from error
        return self._compiled[source]

    def _run(self, source: str, variables: Mapping[str, object], shield: Shield) -> str:
        template = self._compile(source)
        try:
            return _bounded(template.generate(variables))
        except (jinja2.TemplateError, *_FAILURES) as error:
            said = shield.uncover(" ".join(str(error).split()))
            if isinstance(error, TemplateRefusalError):
                raise TemplateError(f"the chat template refuses the messages: {said}", "change the messages") from error
            raise TemplateError(
                f"the chat template fails on these messages: {said}", "change the messages, or mend the template"
            ) from error


def _own_names(tree: nodes.Template) -> set[str]:
    """Find the names that a template sets in loops, or without asking whether they were given."""
    local = {
        name.name for loop in tree.find_all(nodes.For) for name in loop.find_all(nodes.Name) if name.ctx == "store"
    }
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    tests = [test.node for test in tree.find_all(nodes.Test) if test.name in ("defined", "undefined")]
    asked = {node.name for node in tests if isinstance(node, nodes.Name)}
    for assignment in tree.find_all(nodes.Assign):
        asked |= {name.name for name in assignment.node.find_all(nodes.Name)} & {getattr(assignment.target, "name", "")}
    return local | (stored - asked)


def _as_template_sees(message: Message, cover: Callable[[object], object]) -> dict[str, object]:
    """Spell a message out, with what users and models wrote covered; roles and the names of fields are ours."""
    turn: dict[str, object] = {"role": "system" if message.role == "developer" else message.role}
    turn["content"] = cover(message.text)
    if message.reasoning is not None:
        turn["reasoning_content"] = cover(message.reasoning)
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": cover(call.id),
                "type": "function",
                "function": {"name": cover(call.name), "arguments": cover(call.parsed_arguments())},
            }
            for call in message.tool_calls
        ]
    for key, value in (("tool_call_id", message.tool_call_id), ("name", message.name)):
        if value is not None:
            turn[key] = cover(value)
    return turn


def _bounded(pieces: Iterable[str]) -> str:
    kept = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_OUTPUT_CHARACTERS:
            raise jinja2.TemplateRuntimeError(f"it writes more than {MAX_OUTPUT_CHARACTERS} characters")
        kept.append(piece)
    return "".join(kept)


def _unreadable(error: Exception) -> TemplateError:
    return TemplateError(
        f"the chat template cannot be read: {' '.join(str(error).split())}",
        "put a working template into chat_template.jinja beside the checkpoint",
    )
