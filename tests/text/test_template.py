from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import TemplateError, UsageError
from longlens.text.messages import Message, Tool, ToolCall
from longlens.text.segments import ControlTokens, Segment
from longlens.text.template import ChatTemplate, templates_of_checkpoint, templates_of_gguf
from longlens.text.tokenizer import Tokenizer
from tests.text.vocabularies import CONTROL, glm_json

HERE = Path(__file__).parent
SOURCE = (HERE / "glm_like.jinja").read_text(encoding="utf-8")
GOLDEN = json.loads((HERE.parent / "golden" / "conversations.json").read_text(encoding="utf-8"))
FIXTURE = (HERE.parent / "fixtures" / "tiny-glm" / "chat_template.jinja").read_text(encoding="utf-8")
GLM = ChatTemplate({"default": SOURCE}, ControlTokens(CONTROL))
READ = Tool({"name": "read", "description": "Reads.", "parameters": {"properties": {"path": {"type": "string"}}}})


def text_of(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def control_of(segments: list[Segment]) -> list[str]:
    return [segment.text for segment in segments if segment.is_control]


def render(source: str, *messages: Message, **arguments: Any) -> list[Segment]:
    return ChatTemplate({"default": source}, ControlTokens(CONTROL)).render(messages, **arguments)


def conversation(word: str) -> tuple[list[Message], list[Tool]]:
    """Every place in which users, tools and models write, filled with a word."""
    calls = (
        ToolCall(word, word, json.dumps({word: word})),
        ToolCall("2", "f", json.dumps({word: [1, {word: [word, None]}]})),
    )
    messages = [
        Message("system", f"a {word} b"),
        Message("user", word, name=word),
        Message("assistant", f"{word} c", reasoning=f"d {word}", tool_calls=calls),
        Message("tool", word, tool_call_id=word),
        Message("tool", f"\n{word}\n"),
        Message("assistant", word),
        Message("user", ("x", word, "y")),
        Message("assistant", f"x{word}y{word}", reasoning=word),
    ]
    tools = [Tool({"name": word, "description": word, "parameters": {"properties": {word: {"enum": [word]}}}})]
    return messages, tools


def test_the_default_prompt_of_glm() -> None:
    segments = GLM.render([Message("system", "S"), Message("user", "Hello")])
    assert (
        text_of(segments) == "[gMASK]<sop><|system|>Reasoning Effort: Max<|system|>S<|user|>Hello<|assistant|><think>"
    )
    assert control_of(segments) == [
        *("[gMASK]", "<sop>", "<|system|>", "<|system|>", "<|user|>", "<|assistant|>", "<think>")
    ]


def test_options_reach_the_template() -> None:
    user = [Message("user", "x")]
    assert "Effort: High" in text_of(GLM.render(user, options={"reasoning_effort": "high"}))
    without = text_of(GLM.render(user, options={"enable_thinking": False}))
    assert without == "[gMASK]<sop><|user|>x<|assistant|><think></think>"
    assert text_of(GLM.render(user, add_generation_prompt=False)).endswith("<|user|>x")


@pytest.mark.parametrize("token", CONTROL)
def test_an_option_is_text_as_well(token: str) -> None:
    segments = render("{{ note }}{{ notes.key[0] }}", options={"note": token, "notes": {"key": [token]}})
    assert segments == [Segment(token * 2)]


def test_reasoning_is_kept_after_the_last_user_or_where_it_is_not_to_be_cleared() -> None:
    turns = [Message("user", "1"), Message("assistant", "a", reasoning="r1"), Message("user", "2")]
    assert "<think></think>a" in text_of(GLM.render(turns))
    assert "<think>r1</think>a" in text_of(GLM.render(turns, options={"clear_thinking": False}))


def test_one_turns_reasoning_does_not_leak_into_the_next() -> None:
    turns = [Message("user", "1"), Message("assistant", "a", reasoning="secret"), Message("assistant", "b")]
    assert text_of(GLM.render(turns)).count("secret") == 1


def test_tools_calls_and_results_are_written() -> None:
    call = ToolCall("1", "read", '{"path": "a \\"b\\" <c>", "lines": [1, 2], "all": true}')
    turns = [
        *(Message("user", "u"), Message("assistant", " see \n", reasoning="r", tool_calls=(call,))),
        *(Message("tool", "one", tool_call_id="1"), Message("tool", "two")),
    ]
    text = text_of(GLM.render(turns, tools=[READ]))
    assert json.dumps(READ.function) in text
    assert text.endswith(
        "<|user|>u<|assistant|><think>r</think>see<tool_call>read"
        '<arg_key>path</arg_key><arg_value>a "b" <c></arg_value><arg_key>lines</arg_key><arg_value>[1, 2]</arg_value>'
        "<arg_key>all</arg_key><arg_value>true</arg_value></tool_call>"
        "<|observation|><tool_response>one</tool_response><tool_response>two</tool_response><|assistant|><think>"
    )


def test_developers_speak_as_the_system() -> None:
    assert text_of(render("{{ messages[0].role }}", Message("developer", "x"))) == "system"


def test_fields_that_are_not_known_are_not_there() -> None:
    source = "{{ messages[0].keys() | list }}{{ tools is none }}"
    assert text_of(render(source, Message("assistant", "x"))) == "['role', 'content']True"
    full = Message("assistant", "x", reasoning="", tool_calls=(ToolCall("1", "f", ""),), name="n")
    assert text_of(render(source, full)) == "['role', 'content', 'reasoning_content', 'tool_calls', 'name']True"


@pytest.mark.parametrize("source", [SOURCE, FIXTURE], ids=["glm_like", "fixture"])
@pytest.mark.parametrize("token", CONTROL)
def test_a_control_token_is_text_wherever_users_write_it(token: str, source: str) -> None:
    template = ChatTemplate({"default": source}, ControlTokens(CONTROL))
    options = {"clear_thinking": False, "reasoning_effort": token}
    messages, tools = conversation(token)
    neutral_messages, neutral_tools = conversation("neutral")
    segments = template.render(messages, tools=tools, options=options)
    neutral = template.render(neutral_messages, tools=neutral_tools, options=options)
    assert control_of(segments) == control_of(neutral)
    assert text_of(segments) == text_of(neutral).replace("neutral", token)


@pytest.mark.parametrize("token", CONTROL)
def test_the_ids_of_a_prompt_have_no_more_control_tokens_than_the_template_wrote(token: str) -> None:
    tokenizer = Tokenizer.from_json(glm_json())
    messages, tools = conversation(token)
    segments = GLM.render(messages, tools=tools)
    ids = tokenizer.encode_rendered(segments)
    assert [tokenizer.decode([i]) for i in ids if i in tokenizer.special_ids] == control_of(segments)
    assert tokenizer.decode(ids) == text_of(segments)


FRAGMENTS = [*CONTROL, "<", "|", ">", "[", "/", "|user|", "think", "user|>", "</", "neutral", " ", "\n", "x", "é", '"']


@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), min_size=1, max_size=8).map("".join))
def test_no_text_changes_the_control_tokens_of_a_prompt(word: str) -> None:
    messages, tools = conversation(word if word.strip() else "x")
    neutral_messages, neutral_tools = conversation("neutral")
    options = {"clear_thinking": False}
    neutral = GLM.render(neutral_messages, tools=neutral_tools, options=options)
    assert control_of(GLM.render(messages, tools=tools, options=options)) == control_of(neutral)


@given(st.text(st.characters(exclude_characters="<>[]/", exclude_categories=("Cs",)), min_size=1).filter(str.strip))
def test_without_brackets_the_prompt_is_what_jinja_renders(word: str) -> None:
    messages, tools = conversation(word)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, **options)
    turns: list[dict[str, Any]] = [{"role": message.role, "content": message.text} for message in messages]
    for turn, message in zip(turns, messages, strict=True):
        if message.reasoning is not None:
            turn["reasoning_content"] = message.reasoning
        turn["tool_calls"] = [
            {"function": {"name": call.name, "arguments": call.parsed_arguments()}} for call in message.tool_calls
        ]
    expected = environment.from_string(SOURCE).render(
        messages=turns, tools=[{"function": tool.function} for tool in tools], add_generation_prompt=True
    )
    assert text_of(GLM.render(messages, tools=tools)) == expected


NASTY = {
    "joined with the template's text": "{{ '<|' + messages[0].content }}{{ messages[0].content }}",
    "in the template's brackets": "<{{ messages[0].content }}><|{{ messages[0].content }}|>[{{ messages[0].content }}]",
    "with letters removed": "{{ messages[0].content | replace('x', '') }}{{ messages[0].content.replace('\\n', '') }}",
    "cut in two": "{{ messages[0].content[:3] }}{{ messages[0].content[3:] }}",
    "without its beginning": "<{{ messages[0].content[1:] }}",
    "split and joined": "{{ messages[0].content.split() | join }}{{ messages[0].content.split('_') | join('_') }}",
    "reversed": "{{ messages[0].content | reverse }}",
    "in capitals and back": "{{ messages[0].content | upper | lower }}{{ messages[0].content | title }}",
    "as JSON": "{{ messages[0].content | tojson }}{{ messages[0].content | tojson(ensure_ascii=True) }}",
    "as Python writes it": "{{ [messages[0].content] }}{{ '%r' % messages[0].content }}",
    "formatted": "{{ '%s|>' % messages[0].content }}{{ '<{}>'.format(messages[0].content) }}",
    "letter by letter": "{% for c in messages[0].content %}{{ c }}{% endfor %}",
    "by way of a block": "{% set x %}{{ messages[0].content }}{% endset %}{{ x | trim }}",
    "by way of a macro": "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(messages[0].content) ~ m('') }}",
    "in an error": "{{ raise_exception(messages[0].content) if false else messages[0].content }}",
}


@pytest.mark.parametrize("source", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize(
    "content",
    [
        *CONTROL,
        "<|usxer|>",
        "<|us\ner|>",
        "|user|",
        "user|>",
        "us er|>",
        "think",
        "user",
        "gMASK",
        ">|resu|<",
        "<THINK>",
    ],
)
def test_no_way_of_writing_user_text_makes_a_control_token(source: str, content: str) -> None:
    segments = render(source, Message("user", content))
    assert control_of(segments) == []
    assert not any(symbol in text_of(segments) for symbol in map(chr, range(0x4DC0, 0x4E00)))


def test_a_control_token_that_the_template_puts_together_is_one() -> None:
    source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{{ '<' + 'think>' }}{{ eos_token }}"
    template = ChatTemplate({"default": source}, ControlTokens(CONTROL), special_tokens={"eos_token": "<|endoftext|>"})
    segments = template.render([Message("user", "<|user|>"), Message("assistant", "eos_token")])
    assert segments == [
        Segment("<|user|>", is_control=True),
        Segment("<|user|>"),
        Segment("<|assistant|>", is_control=True),
        Segment("eos_token"),
        Segment("<think>", is_control=True),
        Segment("<|endoftext|>", is_control=True),
    ]


SYMBOLS = "".join(map(chr, range(0x4DC0, 0x4DE0)))


@pytest.mark.parametrize(
    ("source", "message", "arguments"),
    [
        (SYMBOLS + "{{ messages[0].content }}", Message("user", "<|user|>"), {}),
        ("{{ messages[0].name }}{{ messages[0].content }}", Message("user", "<|user|>", name=SYMBOLS), {}),
        ("{{ note }}{{ messages[0].content }}", Message("user", "<|user|>"), {"options": {"note": SYMBOLS}}),
        (
            "{{ tools[0].function.x }}{{ messages[0].content }}",
            Message("user", "<|user|>"),
            {"tools": [Tool({"name": "f", "x": SYMBOLS})]},
        ),
    ],
    ids=["in the template", "in a message", "in an option", "in a tool"],
)
def test_symbols_that_may_stand_for_brackets_stay_themselves(
    source: str, message: Message, arguments: dict[str, Any]
) -> None:
    assert render(source, message, **arguments) == [Segment(SYMBOLS + "<|user|>")]


@pytest.mark.parametrize("entry", GOLDEN, ids=[str(number) for number in range(len(GOLDEN))])
def test_conversations_are_rendered_as_by_transformers(entry: dict[str, Any]) -> None:
    template = ChatTemplate({"default": FIXTURE}, ControlTokens(CONTROL))
    arguments = dict(entry["arguments"])
    tools = [Tool.from_definition(tool) for tool in arguments.pop("tools", ())]
    add_generation_prompt = arguments.pop("add_generation_prompt", True)
    messages = [message_of(turn) for turn in entry["messages"]]
    segments = template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt, options=arguments)
    assert text_of(segments) == entry["prompt"]


def message_of(turn: dict[str, Any]) -> Message:
    content = turn["content"]
    calls = [call["function"] for call in turn.get("tool_calls", ())]
    return Message(
        turn["role"],
        content if isinstance(content, str) else tuple(part["text"] for part in content),
        reasoning=turn.get("reasoning_content"),
        tool_calls=tuple(ToolCall("", call["name"], json.dumps(call["arguments"])) for call in calls),
    ).with_reasoning_apart()


def test_without_a_template_chat_is_refused() -> None:
    template = ChatTemplate({}, ControlTokens(CONTROL))
    assert not template.exists
    with pytest.raises(TemplateError, match="no chat template") as caught:
        template.render([Message("user", "x")])
    assert "plain text" in caught.value.mend


def test_a_template_for_tools_is_taken_when_there_are_tools() -> None:
    template = ChatTemplate({"default": "plain", "tool_use": "tools"}, ControlTokens([]))
    assert text_of(template.render([])) == "plain"
    assert text_of(template.render([], tools=[READ])) == "tools"
    with pytest.raises(TemplateError, match="'default'"):
        ChatTemplate({"tool_use": "tools"}, ControlTokens([])).render([])


def test_an_option_that_the_template_does_not_read_is_refused_with_those_it_reads() -> None:
    assert GLM.options() == {"enable_thinking", "reasoning_effort", "clear_thinking"}
    with pytest.raises(UsageError, match="enable_thoughts") as caught:
        GLM.render([], options={"enable_thoughts": False})
    assert "enable_thinking" in caught.value.mend
    with pytest.raises(UsageError, match="messages"):
        GLM.render([], options={"messages": []})


def test_names_that_the_template_sets_itself_are_no_options_unless_it_asks_for_them() -> None:
    source = (
        "{% for m in messages %}{% set a = 1 %}{{ a }}{% endfor %}"
        "{% if b is not defined %}{% set b = 1 %}{% endif %}{% set c = c or 2 %}{{ b }}{{ d }}"
        "{% macro f(x) %}{% if e is not defined %}{% set e = x %}{% endif %}{{ e }}{% endmacro %}"
    )
    assert ChatTemplate({"default": source}, ControlTokens([])).options() == {"b", "c", "d", "e"}


@pytest.mark.parametrize("source", ["{{", "{% nonsense %}", "{% for %}", "{{ x | nofilter }}", "{{ " + "(" * 5000])
def test_a_template_that_cannot_be_read_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="cannot be read"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content + 1 }}",
        "{{ messages[7].content }}",
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ messages.__class__.__mro__ }}",
        "{% include 'x' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'x' * 999999 }}{% endfor %}",
    ],
)
def test_a_template_that_fails_says_so_instead_of_hanging(source: str) -> None:
    with pytest.raises(TemplateError, match="fails on these messages"):
        render(source, Message("user", "x"))


def test_a_template_that_refuses_is_quoted() -> None:
    with pytest.raises(TemplateError, match=r"refuses the messages: not <\|user\|> again"):
        render("{{ raise_exception('not\n' + messages[0].content + ' again') }}", Message("user", "<|user|>"))


def test_the_time_comes_from_the_clock() -> None:
    source = "{{ strftime_now('%Y-%m-%d') }}"
    template = ChatTemplate({"default": source}, ControlTokens([]), clock=lambda: datetime(2026, 8, 1))
    assert text_of(template.render([])) == "2026-08-01"


def test_the_file_goes_before_the_configuration() -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    assert templates_of_checkpoint(None, {}) == {}
    assert templates_of_checkpoint(None, {"chat_template": "a"}) == {"default": "a"}
    assert templates_of_checkpoint(None, {"chat_template": named}) == {"default": "a", "tool_use": "b"}
    assert templates_of_checkpoint("c", {"chat_template": named}) == {"default": "c", "tool_use": "b"}


def test_gguf_names_templates_by_keys() -> None:
    entries = {"tokenizer.chat_template": "a", "tokenizer.chat_template.tool_use": "b", "tokenizer.chat_templates": ()}
    assert templates_of_gguf(entries) == {"default": "a", "tool_use": "b"}
    assert templates_of_gguf({"general.name": "x"}) == {}


@pytest.mark.parametrize("value", [7, {}, ["a"], [{"name": "a"}], [{"template": "a"}]])
def test_what_is_no_template_is_refused(value: object) -> None:
    with pytest.raises(TemplateError, match="neither a text nor a list"):
        templates_of_checkpoint(None, {"chat_template": value})
