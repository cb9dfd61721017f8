"""`longlens chat`: a conversation in the terminal, spelled as llama-cli spells it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import click

from longlens.chat.conversation import ChatOptions
from longlens.chat.dialogue import Dialogue
from longlens.chat.facade import LoadedModel
from longlens.chat.opening import open_model
from longlens.cli.chat_input import choose_lines
from longlens.cli.chat_loop import EXIT_TERMINATED, ChatLoop
from longlens.cli.data_folder import store_folder
from longlens.cli.messages import print_note
from longlens.cli.model_options import ModelWishes, SamplingWishes, model_options, sampling_options
from longlens.cli.opening import opening_of, print_start, read_template_options, sampling_params
from longlens.cli.prompt_source import read_prompt
from longlens.cli.turn_score import keep_turn_score
from longlens.errors import UsageError


@click.command(help="Talk with the model. Answers go to stdout, everything else to stderr. /help lists the commands.")
@model_options
@sampling_options
@click.option("-p", "--prompt", "prompt", metavar="TEXT", help="system prompt; beside -sys, the first message")
@click.option("-f", "--file", "file", metavar="FILE", help="read what -p gives from a file")
@click.option("-sys", "--system-prompt", "system", metavar="TEXT", help="system prompt")
@click.option("-i", "--interactive", is_flag=True, expose_value=False, help="as llama-cli; a chat always is")
@click.option("-cnv", "--conversation", is_flag=True, expose_value=False, help="as llama-cli; a chat always is one")
@click.option("--chat-template-kwargs", "template_options", metavar="JSON", help='such as {"enable_thinking": false}')
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="no start log, and no line after each answer")
def COMMAND(  # noqa: N802  (the name under which every command module offers its command)
    model_wishes: ModelWishes, sampling_wishes: SamplingWishes, **options: Any
) -> int:
    """Open the model, talk, leave."""
    beginning = _beginning(options)
    template_options = read_template_options(options["template_options"])
    is_quiet = options["is_quiet"]
    with LoadedModel(open_model(opening_of(model_wishes))) as model, _terminable():
        print_start(model.opened, model_wishes, is_quiet=is_quiet)
        params = sampling_params(sampling_wishes, model.opened)
        with Dialogue(model, system=beginning.system, options=ChatOptions(template=template_options)) as dialogue:
            if not is_quiet:
                print_note("chat: /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves")
            folder = store_folder(model_wishes)
            loop = ChatLoop(
                dialogue,
                params,
                choose_lines(),
                is_quiet=is_quiet,
                on_finished=lambda finished: keep_turn_score(model.opened, finished, folder),
            )
            code = loop.run(beginning.message)
    # A script that pipes its messages in learns that one of them was refused; who sits at a terminal has seen it.
    return 1 if code == 0 and loop.num_faults and not sys.stdin.isatty() else code


class _Beginning(NamedTuple):
    system: str | None
    message: str | None


def _beginning(options: dict[str, Any]) -> _Beginning:
    """In llama-cli's chat `-p` is the system prompt, unless `-sys` gives it."""
    text = None
    if options["prompt"] is not None or options["file"] is not None:
        if options["file"] == "-":
            raise UsageError("-f - reads standard input, where the messages come from", "give -f a file")
        text = read_prompt(options["prompt"], options["file"])
    return _Beginning(text, None) if options["system"] is None else _Beginning(options["system"], text)


@contextmanager
def _terminable() -> Iterator[None]:
    """Leave in order on SIGTERM, so that the terminal is given back as it was."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)
