"""`longlens ask`: a question about a repository."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from longlens.ask.answer import BACKGROUND_QUESTION, Preparation, RepositoryAnswer, RepositoryQuestion, answer, prepare
from longlens.ask.report import pack_as_json, pack_lines, place_lines
from longlens.chat.conversation import ChatOptions
from longlens.chat.facade import Asking, LoadedModel
from longlens.chat.opening import open_model
from longlens.chat.request import Finished
from longlens.cli.answer_writer import AnswerWriter
from longlens.cli.data_folder import cache_folder, store_folder
from longlens.cli.interruption import Interruption, interruptible
from longlens.cli.long_prompt import agrees_to_wait
from longlens.cli.messages import print_fault, print_note
from longlens.cli.model_options import ModelWishes, SamplingWishes, model_options_or_pocket, sampling_options
from longlens.cli.opening import opening_of, print_pressure, print_start, read_template_options, sampling_params
from longlens.cli.progress import PrefillProgress
from longlens.cli.start_log import end_line, pressure_line
from longlens.cli.turn_score import keep_turn_score
from longlens.engine.sampling import SamplingParams
from longlens.errors import ModelNotFoundError, UsageError
from longlens.machine import memory_pressure

DEFAULT_ANSWER_TOKENS = 256


@dataclass(frozen=True)
class AskWishes:
    """What the command line says about one question, beside model and sampling."""

    root: Path
    question: str
    line_numbers: Any
    log: tuple[str, bytes] | None
    cache: Path | None
    profile_folder: Path
    says_yes: bool
    is_json: bool
    is_quiet: bool
    is_verbose: bool
    template_options: dict[str, object]


@click.command(
    help="Answer a question about a repository, and show the files and lines that the model looked at.\n\n"
    "PATH is the repository's folder, this one if it is left out."
)
@click.argument("words", nargs=-1, metavar="[PATH] QUESTION")
@model_options_or_pocket
@sampling_options
@click.option("--log", "log_file", metavar="FILE", help="a log file to read last before the question")
@click.option("--line-numbers", type=click.Choice(("all", "anchors", "none")), default="anchors", show_default=True)
@click.option("-y", "--yes", "says_yes", is_flag=True, help="read prompts above 500,000 tokens without asking")
@click.option("--chat-template-kwargs", "template_options", metavar="JSON", help='such as {"enable_thinking": false}')
@click.option("--json", "is_json", is_flag=True, help="print one JSON object at the end")
@click.option("-v", "--verbose", "is_verbose", is_flag=True, help="name every file that was left out, and why")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="no start log; warnings are still printed")
def COMMAND(  # noqa: N802  (the name under which every command module offers its command)
    model_wishes: ModelWishes, sampling_wishes: SamplingWishes, **options: Any
) -> int:
    """Pack, read, answer, report."""
    wishes = _wishes(model_wishes, options)
    with interruptible() as interruption:
        opened = open_model(opening_of(model_wishes))
        with LoadedModel(opened) as model:
            print_start(opened, model_wishes, is_quiet=wishes.is_quiet)
            params = sampling_params(sampling_wishes, opened)
            return _ask(model, params, wishes, interruption)


def _wishes(model_wishes: ModelWishes, options: dict[str, Any]) -> AskWishes:
    words: tuple[str, ...] = options["words"]
    if not 1 <= len(words) <= 2:
        raise UsageError(
            f"ask takes a question, and before it a path if you like; {len(words)} words were given",
            'write the question in quotes: longlens ask src "where is the indexer defined?"',
        )
    root = Path(words[0] if len(words) == 2 else ".")
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder", "give the repository's folder first, then the question in quotes")
    return AskWishes(
        root=root,
        question=words[-1],
        line_numbers=options["line_numbers"],
        log=_read_log(options["log_file"]),
        cache=store_folder(model_wishes),
        profile_folder=cache_folder(model_wishes.cache_dir),
        says_yes=options["says_yes"],
        is_json=options["is_json"],
        is_quiet=options["is_quiet"],
        is_verbose=options["is_verbose"],
        template_options=read_template_options(options["template_options"]),
    )


def _read_log(file: str | None) -> tuple[str, bytes] | None:
    if file is None:
        return None
    try:
        return Path(file).name, Path(file).read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"the log file {file} cannot be read: {error.strerror}", "check its path") from None


def _question(wishes: AskWishes, answer_tokens: int) -> RepositoryQuestion:
    return RepositoryQuestion(
        root=wishes.root,
        text=wishes.question,
        answer_tokens=answer_tokens,
        cache=wishes.cache,
        style=wishes.line_numbers,
        log=wishes.log,
        chat=ChatOptions(template=wishes.template_options),
    )


def _ask(model: LoadedModel, params: SamplingParams, wishes: AskWishes, interruption: Interruption) -> int:
    answer_tokens = DEFAULT_ANSWER_TOKENS if params.max_tokens is None else params.max_tokens
    ready = prepare(model, _question(wishes, answer_tokens))
    if not wishes.is_quiet:
        for line in pack_lines(ready, is_verbose=wishes.is_verbose):
            print_note(line)
        print_note(pressure_line("before prefill", memory_pressure()))
    num_tokens = len(ready.prompt.token_ids)
    if not agrees_to_wait(model.opened, num_tokens, wishes.profile_folder, says_yes=wishes.says_yes):
        print_fault("the repository was not read", "ask about a smaller folder, or with a smaller --context")
        return 1
    writer = AnswerWriter(is_silent=wishes.is_json)
    result: RepositoryAnswer | None = None
    with PrefillProgress() as progress:
        asking = Asking(cancel=interruption.flag, on_progress=progress.update)
        # The answer ends where the room kept for it ends.
        for event in answer(model, ready, replace(params, max_tokens=answer_tokens), asking):
            progress.stop()
            if isinstance(event, RepositoryAnswer):
                result = event
            elif not isinstance(event, Finished):
                writer.take(event)
    writer.end()
    if result is not None:
        _report(model, ready, wishes, writer, result)
        keep_turn_score(model.opened, result.finished, wishes.cache)
    return interruption.exit_code


def _report(
    model: LoadedModel, ready: Preparation, wishes: AskWishes, writer: AnswerWriter, result: RepositoryAnswer
) -> None:
    if wishes.is_json:
        json.dump(_as_json(model, ready, writer, result), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        for line in place_lines(result.places):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    print_pressure("after prefill", is_quiet=wishes.is_quiet)
    if not wishes.is_quiet:
        print_note(end_line(result.finished))
        if result.background_s is not None:
            print_note(f'places: against "{BACKGROUND_QUESTION}", asked after it in {result.background_s:.2f} s')


def _as_json(
    model: LoadedModel, ready: Preparation, writer: AnswerWriter, result: RepositoryAnswer
) -> dict[str, object]:
    opened = model.opened
    return {
        "text": "".join(writer.text),
        "reasoning": "".join(writer.reasoning),
        **result.finished.as_json(),
        "places": [place.as_json() for place in result.places],
        "cited": [{"path": path, "line": line} for path, line in result.cited],
        "pack": pack_as_json(ready),
        "model": {"name": opened.name, "fingerprint": None},  # comes with stored caches
        "plan": opened.plan.as_json(),
    }
