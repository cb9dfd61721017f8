from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from longlens.chat.conversation import ChatOptions, Conversation, conversation_of, message_of
from longlens.errors import ConfigError, FormatError, TemplateError, UsageError
from longlens.formats.checkpoint import open_checkpoint
from longlens.text.messages import Message
from longlens.text.template import ChatTemplate

FIXTURES = Path(__file__).parents[1] / "fixtures"
HELLO = [Message("user", "hello <|assistant|>")]


def conversation(name: str) -> Conversation:
    with open_checkpoint(FIXTURES / name) as checkpoint:
        return conversation_of(checkpoint)


def copy_of_the_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "tiny-glm", tmp_path / "model"))


def test_the_template_of_folder_and_gguf_makes_the_same_prompt() -> None:
    ours = [conversation(name).prompt_of_messages(HELLO) for name in ("tiny-glm", "tiny-glm-F32.gguf")]
    assert ours[0] == ours[1]


def test_control_tokens_in_a_message_stay_text() -> None:
    chat = conversation("tiny-glm")
    prompt = chat.prompt_of_messages(HELLO)
    assistant = chat.tokenizer.id_of("<|assistant|>")
    assert prompt.token_ids.count(assistant) == 1, "the template's own, none of the user's"


def test_reasoning_is_open_where_the_template_opens_it() -> None:
    chat = conversation("tiny-glm")
    assert chat.prompt_of_messages(HELLO).starts_in_reasoning
    off = ChatOptions(template={"enable_thinking": False})
    assert not chat.prompt_of_messages(HELLO, off).starts_in_reasoning


def test_an_option_that_the_template_does_not_read_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'volume'"):
        conversation("tiny-glm").prompt_of_messages(HELLO, ChatOptions(template={"volume": 11}))


def test_without_a_template_chat_is_refused_and_text_is_not(tmp_path: Path) -> None:
    folder = copy_of_the_folder(tmp_path)
    (folder / "chat_template.jinja").unlink()
    with open_checkpoint(folder) as checkpoint:
        chat = conversation_of(checkpoint)
    with pytest.raises(TemplateError, match="no chat template"):
        chat.prompt_of_messages(HELLO)
    assert chat.prompt_of_text("hello").token_ids


def test_every_stop_id_of_generation_config_stops() -> None:
    tokenizer = conversation("tiny-glm").tokenizer
    assert {tokenizer.id_of(name) for name in ("<|endoftext|>", "<|user|>", "<|observation|>")} <= tokenizer.stop_ids


def test_plain_mappings_are_messages_and_unknown_keys_are_refused() -> None:
    assert message_of({"role": "user", "content": "hello"}) == Message("user", "hello")
    with pytest.raises(UsageError, match="colour"):
        message_of({"role": "user", "content": "hello", "colour": "red"})
    with pytest.raises(UsageError, match="'wizard'"):
        message_of({"role": "wizard", "content": "hello"})


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("tokenizer.json", None, FormatError),
        ("tokenizer.json", "{", FormatError),
        ("tokenizer_config.json", "[]", FormatError),
        ("generation_config.json", "no json", FormatError),
        ("generation_config.json", '{"eos_token_id": ["x"]}', ConfigError),
    ],
)
def test_a_damaged_file_of_the_text_side_is_named(
    tmp_path: Path, name: str, content: str | None, error: type[Exception]
) -> None:
    folder = copy_of_the_folder(tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with open_checkpoint(folder) as checkpoint, pytest.raises(error, match=name.partition(".")[0]):
        conversation_of(checkpoint)


def test_a_frame_around_a_message_is_what_the_template_writes() -> None:
    chat = conversation("tiny-glm")
    text = "def main():\n"
    whole = chat.prompt_of_messages([Message("system", "be brief"), Message("user", text)])
    framed = chat.frame("be brief").around(chat.tokenizer.encode(text))
    assert framed == whole


def test_a_frame_without_a_template_is_the_system_text_alone() -> None:
    chat = conversation("tiny-glm")
    plain = Conversation(chat.tokenizer, ChatTemplate({}, chat.tokenizer.control))
    frame = plain.frame("be brief")
    assert chat.tokenizer.decode(frame.head_ids) == "be brief\n\n"
    assert frame.tail_ids == ()


def test_a_template_that_changes_a_messages_text_cannot_frame_it() -> None:
    chat = conversation("tiny-glm")
    twice = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"
    broken = Conversation(chat.tokenizer, ChatTemplate({"default": twice}, chat.tokenizer.control))
    with pytest.raises(TemplateError, match="once and as it is"):
        broken.frame("be brief")
