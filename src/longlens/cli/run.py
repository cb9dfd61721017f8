"""`longlens run`: answer one prompt and leave."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import click

from longlens.chat.conversation import ChatOptions
from longlens.chat.facade import Asking, LoadedModel, Prompted
from longlens.chat.opening import OpenedModel, open_model
from longlens.chat.request import Finished
from longlens.cli.answer_writer import AnswerWriter
from longlens.cli.data_folder import store_folder
from longlens.cli.interruption import Interruption, interruptible
from longlens.cli.messages import print_note
from longlens.cli.model_options import ModelWishes, SamplingWishes, model_options, sampling_options
from longlens.cli.opening import opening_of, print_pressure, print_start, read_template_options, sampling_params
from longlens.cli.progress import PrefillProgress
from longlens.cli.prompt_source import read_prompt
from longlens.cli.start_log import end_line, pressure_line
from longlens.cli.turn_score import keep_turn_score
from longlens.engine.sampling import SamplingParams
from longlens.errors import UsageError
from longlens.machine import memory_pressure
from longlens.text.messages import Message


@dataclass(frozen=True)
class RunWishes:
    """What the command line says about one run, beside model and sampling."""

    prompt: str
    system: str | None
    is_raw: bool
    is_json: bool
    is_quiet: bool
    template_options: dict[str, object]


@click.command(help="Answer one prompt. The answer goes to stdout, everything else to stderr.")
@model_options
@sampling_options
@click.option("-p", "--prompt", "prompt", metavar="TEXT", help="what to answer")
@click.option("-f", "--file", "file", metavar="FILE", help="read the prompt from a file; - is standard input")
@click.option("-sys", "--system-prompt", "system", metavar="TEXT", help="system message")
@click.option("-i", "--interactive", "is_interactive", is_flag=True, hidden=True)
@click.option("--raw", "-no-cnv", "--no-conversation", "is_raw", is_flag=True, help="go on with the text, no template")
@click.option("--chat-template-kwargs", "template_options", metavar="JSON", help='such as {"enable_thinking": false}')
@click.option("--json", "is_json", is_flag=True, help="print one JSON object at the end")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="no start log; warnings are still printed")
def COMMAND(  # noqa: N802  (the name under which every command module offers its command)
    model_wishes: ModelWishes, sampling_wishes: SamplingWishes, **options: Any
) -> int:
    """Open the model, answer, report."""
    wishes = _run_wishes(options)
    with interruptible() as interruption:
        opened = open_model(opening_of(model_wishes))
        with LoadedModel(opened) as model:
            print_start(opened, model_wishes, is_quiet=wishes.is_quiet)
            finished = _answer(model, sampling_params(sampling_wishes, opened), wishes, interruption)
        if finished is not None:
            keep_turn_score(opened, finished, store_folder(model_wishes))
        return interruption.exit_code


def _run_wishes(options: dict[str, Any]) -> RunWishes:
    if options["is_interactive"]:
        raise UsageError("run answers one prompt and is not interactive", "leave out -i, or use longlens chat")
    prompt = read_prompt(options["prompt"], options["file"])
    if options["is_raw"] and (options["system"] is not None or options["template_options"] is not None):
        raise UsageError("--raw uses no chat template", "leave out --raw, or the system prompt and template options")
    return RunWishes(
        prompt=prompt,
        system=options["system"],
        is_raw=options["is_raw"],
        is_json=options["is_json"],
        is_quiet=options["is_quiet"],
        template_options=read_template_options(options["template_options"]),
    )


def _prompted(model: LoadedModel, wishes: RunWishes) -> Prompted:
    has_template = model.opened.conversation.template.exists
    if wishes.is_raw or (not has_template and wishes.system is None):
        return wishes.prompt
    system = [Message("system", wishes.system)] if wishes.system is not None else []
    return [*system, Message("user", wishes.prompt)]


def _answer(
    model: LoadedModel, params: SamplingParams, wishes: RunWishes, interruption: Interruption
) -> Finished | None:
    answer = AnswerWriter(is_silent=wishes.is_json)
    if not wishes.is_quiet:
        print_note(pressure_line("before prefill", memory_pressure()))
    finished: Finished | None = None
    with PrefillProgress() as progress:
        asking = Asking(ChatOptions(template=wishes.template_options), (), interruption.flag, progress.update)
        for event in model.generate(_prompted(model, wishes), params, asking):
            progress.stop()
            if isinstance(event, Finished):
                finished = event
            else:
                answer.take(event)
    answer.end()
    _report(model.opened, wishes, answer, finished)
    return finished


def _report(opened: OpenedModel, wishes: RunWishes, answer: AnswerWriter, finished: Finished | None) -> None:
    print_pressure("after prefill", is_quiet=wishes.is_quiet)
    if finished is None:
        return
    if not wishes.is_quiet:
        print_note(end_line(finished))
    if wishes.is_json:
        json.dump(_as_json(opened, answer, finished), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")


def _as_json(opened: OpenedModel, answer: AnswerWriter, finished: Finished) -> dict[str, object]:
    return {
        "text": "".join(answer.text),
        "reasoning": "".join(answer.reasoning),
        "tool_calls": list(answer.calls.values()),
        **finished.as_json(),
        "model": {"name": opened.name, "fingerprint": None},  # comes with stored caches
        "plan": opened.plan.as_json(),
    }
