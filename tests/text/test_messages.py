from __future__ import annotations

import pytest

from longlens.errors import UsageError
from longlens.text.messages import ROLES, Message, Tool, ToolCall


@pytest.mark.parametrize("role", ROLES)
def test_every_role_speaks(role: str) -> None:
    assert Message(role, "text").text == "text"


def test_an_unknown_role_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'robot'") as caught:
        Message("robot", "beep")
    assert "assistant" in caught.value.mend


def test_several_texts_are_read_as_one() -> None:
    assert Message("user", ("a", "b ", "c")).text == "ab c"


@pytest.mark.parametrize("content", [None, 7, ["a"], ("a", 7), {"type": "text", "text": "a"}])
def test_content_that_is_not_text_is_refused(content: object) -> None:
    with pytest.raises(UsageError, match="not text"):
        Message("user", content)


@pytest.mark.parametrize("role", ["system", "developer", "user", "tool"])
def test_only_the_assistant_thinks_and_calls(role: str) -> None:
    with pytest.raises(UsageError, match="reasoning"):
        Message(role, "", reasoning="")
    with pytest.raises(UsageError, match="tool_calls"):
        Message(role, "", tool_calls=(ToolCall("1", "f", "{}"),))


def test_only_a_tool_answers_a_call() -> None:
    assert Message("tool", "42", tool_call_id="1").tool_call_id == "1"
    with pytest.raises(UsageError, match="tool_call_id"):
        Message("user", "42", tool_call_id="1")


@pytest.mark.parametrize(
    ("text", "reasoning", "rest"),
    [
        ("<think>why</think>\nbecause", "why", "\nbecause"),
        ("why</think>because", "why", "because"),
        ("<think></think>", "", ""),
        ("a</think>b</think>c", "a", "b</think>c"),
    ],
)
def test_reasoning_that_a_client_left_in_the_text_comes_apart(text: str, reasoning: str, rest: str) -> None:
    message = Message("assistant", text).with_reasoning_apart()
    assert (message.reasoning, message.text) == (reasoning, rest)


@pytest.mark.parametrize(
    "message",
    [
        Message("user", "<think>a</think>b"),
        Message("assistant", "<think>b"),
        Message("assistant", "<think>a</think>b", reasoning="c"),
    ],
)
def test_a_text_without_reasoning_of_its_own_stays_as_it_is(message: Message) -> None:
    assert message.with_reasoning_apart() is message


def test_arguments_keep_their_order() -> None:
    call = ToolCall("1", "f", '{"b": 1, "a": {"d": null, "c": "x"}}')
    assert list(call.parsed_arguments()) == ["b", "a"]
    assert call.parsed_arguments() == {"b": 1, "a": {"d": None, "c": "x"}}


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_a_call_needs_no_arguments(arguments: str) -> None:
    assert ToolCall("1", "f", arguments).parsed_arguments() == {}


@pytest.mark.parametrize("arguments", ["[1]", "1", "null", '"{}"', "{", "{'a': 1}", '{"a": NaN}', "[" * 100_000])
def test_arguments_that_are_no_json_object_are_refused(arguments: str) -> None:
    with pytest.raises(UsageError, match="'f'"):
        ToolCall("1", "f", arguments)


def test_a_call_needs_a_name() -> None:
    with pytest.raises(UsageError, match="no function name"):
        ToolCall("1", "", "{}")


def test_a_tool_is_read_bare_and_wrapped() -> None:
    function = {"name": "f", "parameters": {"properties": {"x": {"type": "string"}}}}
    assert Tool.from_definition(function) == Tool.from_definition({"type": "function", "function": function})
    tool = Tool.from_definition(function)
    assert (tool.name, tool.argument_schemas) == ("f", {"x": {"type": "string"}})


def test_a_tool_without_parameters_describes_no_arguments() -> None:
    assert Tool({"name": "now"}).argument_schemas == {}
    assert Tool({"name": "now", "parameters": {"type": "object"}}).argument_schemas == {}


@pytest.mark.parametrize(
    "definition",
    [{}, {"name": ""}, {"name": 7}, {"name": "f", "parameters": []}, {"type": "function", "function": "f"}],
)
def test_what_defines_no_function_is_refused(definition: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Tool.from_definition(definition)


def test_another_type_of_tool_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="web_search"):
        Tool.from_definition({"type": "web_search"})
