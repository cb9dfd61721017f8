"""What a conversation is made of, as records that no chat format has touched yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, get_args

from longlens.errors import UsageError

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True)
class ToolCall:
    """A function the assistant asked for.

    Attributes:
        id: the name that the result refers to.
        name: the function.
        arguments: a JSON object as text; empty text means no arguments.

    Raises:
        UsageError: `arguments` is not the JSON of an object.
    """

    id: str
    name: str
    arguments: str

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("a tool call has no function name", "give every tool call a name")
        self.parsed_arguments()

    def parsed_arguments(self) -> dict[str, object]:
        """Return the arguments as a dict, in the order in which they were written.

        Raises:
            UsageError: the text is not the JSON of an object.
        """
        text = self.arguments.strip() or "{}"
        try:
            parsed = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"the arguments of the call to {self.name!r} are not JSON: {error}",
                'give them as the text of a JSON object, such as {"path": "README.md"}',
            ) from error
        if not isinstance(parsed, dict):
            raise UsageError(
                f"the arguments of the call to {self.name!r} are JSON, but not an object",
                'give them as the text of a JSON object, such as {"path": "README.md"}',
            )
        return parsed


@dataclass(frozen=True)
class Tool:
    """A function that the model may call.

    Attributes:
        function: its definition, `name`, `description` and `parameters` (a JSON schema), as the caller wrote it:
            the order of keys is part of the prompt.

    Raises:
        UsageError: the definition has no name, or `parameters` is not an object.
    """

    function: Mapping[str, object]

    def __post_init__(self) -> None:
        name = self.function.get("name")
        if not isinstance(name, str) or not name:
            raise UsageError("a tool definition has no name", 'give it as {"name": …, "parameters": …}')
        if not isinstance(self.function.get("parameters", {}), Mapping):
            raise UsageError(f"the parameters of the tool {name!r} are not an object", "give them as a JSON schema")

    @classmethod
    def from_definition(cls, definition: Mapping[str, object]) -> Tool:
        """Read a definition as chat APIs write it: bare, or as `{"type": "function", "function": …}`.

        Raises:
            UsageError: it is of another type, or not a definition.
        """
        if definition.get("type", "function") != "function":
            raise UsageError(f"tools of type {definition['type']!r} are not supported", 'use the type "function"')
        function = definition.get("function", definition)
        if not isinstance(function, Mapping):
            raise UsageError("a tool definition is not an object", 'give it as {"name": …, "parameters": …}')
        return cls(function)

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.function["name"])

    @property
    def argument_schemas(self) -> Mapping[str, object]:
        """The JSON schema of each argument that the definition describes."""
        parameters = self.function.get("parameters", {})
        properties = parameters.get("properties", {}) if isinstance(parameters, Mapping) else {}
        return properties if isinstance(properties, Mapping) else {}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks; `developer` is another word for `system`.
        content: the text, or several texts that are read as one.
        reasoning: what the assistant thought before it spoke; None where it is not known.
        tool_calls: the functions that the assistant asked for.
        tool_call_id: the call that a tool's message answers.
        name: the speaker, where several share a role.

    Raises:
        UsageError: the role is unknown, or a field does not belong to it.
    """

    role: Role
    content: str | tuple[str, ...] = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UsageError(f"a message has the unknown role {self.role!r}", f"use one of {', '.join(ROLES)}")
        parts: object = (self.content,) if isinstance(self.content, str) else self.content
        if not isinstance(parts, tuple) or not all(isinstance(part, str) for part in parts):
            raise UsageError(
                f"the content of a {self.role} message is not text", "give a string, or a tuple of strings"
            )
        if self.role != "assistant":
            self._refuse_assistant_fields()
        if self.role != "tool" and self.tool_call_id is not None:
            raise UsageError(
                f"a {self.role} message has a tool_call_id", "only messages of the role tool answer a call"
            )

    def _refuse_assistant_fields(self) -> None:
        for field, value in (("reasoning", self.reasoning), ("tool_calls", self.tool_calls or None)):
            if value is not None:
                raise UsageError(f"a {self.role} message has {field}", "only the assistant thinks and calls tools")

    @property
    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(self.content)

    def with_reasoning_apart(self) -> Message:
        """Return this turn with the reasoning taken out of the text, for clients that send both as one.

        Chat templates are never asked to do it: to them, `</think>` in a text is text. What lies before the first one
        is the reasoning, with or without `<think>` in front, and the rest is the text.
        """
        reasoning, end, text = self.text.partition("</think>")
        if self.role != "assistant" or self.reasoning is not None or not end:
            return self
        return replace(self, content=text, reasoning=reasoning.rpartition("<think>")[2])


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
