"""`longlens run`: answer one prompt and leave."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import click

from longlens.chat.conversation import ChatOptions
from longlens.chat.facade import Asking, LoadedModel, Prompted
from longlens.chat.opening import OpenedModel, Opening, open_model
from longlens.chat.request import Finished
from longlens.cli.interruption import Interruption, interruptible
from longlens.cli.messages import print_note, print_warning
from longlens.cli.model_options import (
    ModelWishes,
    SamplingWishes,
    model_options,
    read_logit_bias,
    sampling_options,
)
from longlens.cli.progress import PrefillProgress
from longlens.cli.prompt_source import read_prompt
from longlens.cli.start_log import end_line, pressure_line, start_lines
from longlens.engine.sampling import SamplingParams
from longlens.errors import UsageError
from longlens.machine import memory_pressure
from longlens.plan.planner import Wishes
from longlens.text.messages import Message
from longlens.text.reply import ReasoningDelta, TextDelta, ToolCallDelta


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
        opened = open_model(_opening(model_wishes))
        with LoadedModel(opened) as model:
            _print_start(opened, model_wishes, wishes)
            return _answer(model, sampling_params(sampling_wishes, opened), wishes, interruption)


def _run_wishes(options: dict[str, Any]) -> RunWishes:
    if options["is_interactive"]:
        raise UsageError(
            "run answers one prompt and is not interactive", "leave out -i; longlens chat is not built yet"
        )
    prompt = read_prompt(options["prompt"], options["file"])
    if options["is_raw"] and (options["system"] is not None or options["template_options"] is not None):
        raise UsageError("--raw uses no chat template", "leave out --raw, or the system prompt and template options")
    return RunWishes(
        prompt=prompt,
        system=options["system"],
        is_raw=options["is_raw"],
        is_json=options["is_json"],
        is_quiet=options["is_quiet"],
        template_options=_template_options(options["template_options"]),
    )


def _template_options(text: str | None) -> dict[str, object]:
    try:
        parsed = json.loads(text or "{}")
    except ValueError as error:
        raise UsageError(f"--chat-template-kwargs is not JSON: {error}", 'write {"enable_thinking": false}') from None
    if not isinstance(parsed, dict):
        raise UsageError("--chat-template-kwargs is not an object", 'write {"enable_thinking": false}')
    return parsed


def _opening(wishes: ModelWishes) -> Opening:
    device = wishes.device or ("cpu" if wishes.gpu_layers == 0 else "auto")
    return Opening(
        reference=wishes.model,
        device=device,
        wishes=Wishes(
            context=wishes.context or None,  # llama-cli's 0 is "the model's own"
            compute_element=wishes.dtype,
            cache_element=wishes.cache_type,
            num_threads=wishes.threads,
            chunk_tokens=wishes.chunk_tokens,
        ),
        is_strict=wishes.is_strict,
    )


def sampling_params(wishes: SamplingWishes, opened: OpenedModel) -> SamplingParams:
    """What the command line says, and the checkpoint's defaults for the rest.

    Raises:
        UsageError: a value outside of its range.
    """
    defaults = opened.sampling_defaults

    def chosen(wish: float | None, default: float) -> float:
        return default if wish is None else wish

    return SamplingParams(
        max_tokens=None if wishes.max_tokens == -1 else wishes.max_tokens,  # llama-cli's -1 is "no limit"
        temperature=chosen(wishes.temperature, defaults.temperature),
        top_k=int(chosen(wishes.top_k, defaults.top_k)),
        top_p=chosen(wishes.top_p, defaults.top_p),
        min_p=chosen(wishes.min_p, defaults.min_p),
        repetition_penalty=chosen(wishes.repetition_penalty, defaults.repetition_penalty),
        frequency_penalty=chosen(wishes.frequency_penalty, 0.0),
        presence_penalty=chosen(wishes.presence_penalty, 0.0),
        logit_bias=read_logit_bias(wishes.logit_bias),
        seed=None if wishes.seed == -1 else wishes.seed,
    )


def _print_start(opened: OpenedModel, model_wishes: ModelWishes, wishes: RunWishes) -> None:
    for warning in opened.warnings:
        print_warning(warning)
    if wishes.is_quiet:
        return
    for line in start_lines(opened, model_wishes):
        print_note(line)


def _prompted(model: LoadedModel, wishes: RunWishes) -> Prompted:
    has_template = model.opened.conversation.template.exists
    if wishes.is_raw or (not has_template and wishes.system is None):
        return wishes.prompt
    system = [Message("system", wishes.system)] if wishes.system is not None else []
    return [*system, Message("user", wishes.prompt)]


@dataclass
class _Answer:
    """The answer as it comes, on stdout or kept for JSON."""

    is_json: bool
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)

    def take(self, event: ReasoningDelta | TextDelta | ToolCallDelta) -> None:
        if isinstance(event, TextDelta):
            self.text.append(event.text)
            self._show(event.text, sys.stdout)
        elif isinstance(event, ReasoningDelta):
            self.reasoning.append(event.text)
            self._show(event.text, sys.stderr)
        else:
            call = self.calls.setdefault(event.index, {"id": event.id, "name": event.name, "arguments": ""})
            call["arguments"] += event.arguments

    def _show(self, text: str, stream: Any) -> None:
        if not self.is_json:
            stream.write(text)
            stream.flush()

    def end(self) -> None:
        if self.is_json:
            return
        if self.reasoning:
            print_note("")
        for call in self.calls.values():
            sys.stdout.write(("\n" if self.text else "") + json.dumps(call, ensure_ascii=False))
        sys.stdout.write("\n")
        sys.stdout.flush()


def _answer(model: LoadedModel, params: SamplingParams, wishes: RunWishes, interruption: Interruption) -> int:
    answer = _Answer(wishes.is_json)
    before = memory_pressure()
    if not wishes.is_quiet:
        print_note(pressure_line("before prefill", before))
    finished: Finished | None = None
    with PrefillProgress() as progress:
        asking = Asking(ChatOptions(template=wishes.template_options), (), interruption.flag, progress.update)
        if wishes.is_raw:
            asking = Asking(ChatOptions(), (), interruption.flag, progress.update)
        for event in model.generate(_prompted(model, wishes), params, asking):
            progress.stop()
            if isinstance(event, Finished):
                finished = event
            else:
                answer.take(event)
    answer.end()
    _report(model.opened, wishes, answer, finished)
    return interruption.exit_code


def _report(opened: OpenedModel, wishes: RunWishes, answer: _Answer, finished: Finished | None) -> None:
    after = memory_pressure()
    if after.vm_swap_bytes:
        print_warning(f"{after.vm_swap_bytes} bytes of this process are swapped out; a shorter --context helps")
    if finished is None:
        return
    if not wishes.is_quiet:
        print_note(pressure_line("after prefill", after))
        print_note(end_line(finished))
    if wishes.is_json:
        json.dump(_as_json(opened, answer, finished), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")


def _as_json(opened: OpenedModel, answer: _Answer, finished: Finished) -> dict[str, object]:
    return {
        "text": "".join(answer.text),
        "reasoning": "".join(answer.reasoning),
        "tool_calls": list(answer.calls.values()),
        **finished.as_json(),
        "model": {"name": opened.name, "fingerprint": None},  # comes with stored caches
        "plan": opened.plan.as_json(),
    }
