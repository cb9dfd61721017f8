"""`longlens quantize`: a checkpoint becomes a GGUF file of smaller weights, which llama.cpp opens as well."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from longlens.cli.interruption import Interruption, interruptible
from longlens.cli.messages import print_fault, print_note, print_warning
from longlens.convert.quantise_file import write_quantised
from longlens.convert.quantise_plan import QuantisePlan, QuantiseRequest, plan_quantisation
from longlens.convert.tensor_types import QUANTISED_FILE_TYPES
from longlens.errors import CancelledError, UsageError
from longlens.formats.checkpoint import open_checkpoint
from longlens.formats.quoting import quote_all
from longlens.hub.reference import parse_reference, resolve_local
from longlens.machine import detect_machine
from longlens.units import format_bytes, parse_bytes

_MILLION = 10**6
_NAMED = 3
_HELP = f"""Write a model as a GGUF file of another type.

SOURCE is a .gguf file, a folder in Hugging Face's layout, or org/repo:quant; TARGET is the file to write; TYPE is one
of {", ".join(QUANTISED_FILE_TYPES)}, with llama.cpp's mixtures. What was interrupted goes on at the last finished
tensor. The paths of the files go to stdout."""


@dataclass(frozen=True)
class Wishes:
    """The options; None leaves a choice to the machine."""

    split_max_size: str | None
    allow_requantize: bool
    num_threads: int | None
    as_json: bool


@dataclass(frozen=True)
class Written:
    """What a run did; `seconds` and `num_weights` are of this run alone."""

    plan: QuantisePlan
    num_weights: int
    seconds: float


@click.command(help=_HELP)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET", type=click.Path(path_type=Path))
@click.argument("file_type", metavar="TYPE")
@click.option("--split-max-size", metavar="SIZE", help="split into files of at most this size, for example 48GiB")
@click.option("--allow-requantize", is_flag=True, help="quantize weights that are quantised already; it loses more")
@click.option("-t", "--threads", "num_threads", type=click.IntRange(min=1), metavar="N", help="threads  [one a core]")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def COMMAND(  # noqa: N802  (the name under which every command module offers its command)
    *, source: str, target: Path, file_type: str, **options: Any
) -> int:
    """Plan, warn, write, report."""
    wishes = Wishes(**options)
    max_bytes = None if wishes.split_max_size is None else parse_bytes(wishes.split_max_size)
    if max_bytes == 0:
        raise UsageError("--split-max-size is 0", "give a size, for example 48GiB")
    request = QuantiseRequest(target, file_type.upper(), max_bytes, may_requantise=wishes.allow_requantize)
    threads = wishes.num_threads or detect_machine().num_threads
    with interruptible() as interruption, open_checkpoint(resolve_local(parse_reference(source))) as checkpoint:
        plan = plan_quantisation(checkpoint, request)
        _warn(plan)
        try:
            written = _write(plan, threads, interruption)
        except CancelledError as stop:
            print_fault(stop.fault, stop.mend)
            return interruption.exit_code
    _report(written, as_json=wishes.as_json)
    return 0


class WeightProgress:
    """A bar of weights with rate and time to go, on a terminal; use in a `with` block."""

    def __init__(self, num_weights: int) -> None:
        """Draw on stderr, if that is a terminal."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _Weights(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("quantizing", total=num_weights)
        self.num_checked = 0

    def __enter__(self) -> WeightProgress:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def checked(self, num_weights: int) -> None:
        """Take a tensor of an earlier run."""
        self.num_checked += num_weights
        self._progress.update(self._task, description="checking", advance=num_weights)

    def written(self, num_weights: int) -> None:
        """Take a piece."""
        self._progress.update(self._task, description="quantizing", advance=num_weights)


class _Weights(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Weights done and in all, and how many a second."""
        rate = f"  {task.speed / _MILLION:.1f} M/s" if task.speed else ""
        return Text(f"{task.completed / _MILLION:.0f}/{(task.total or 0) / _MILLION:.0f} M weights{rate}")


def _write(plan: QuantisePlan, num_threads: int, interruption: Interruption) -> Written:
    begin = time.monotonic()
    with WeightProgress(plan.num_weights) as progress:
        write_quantised(
            plan, num_threads=num_threads, watcher=progress, is_cancelled=lambda: interruption.flag.is_cancelled
        )
    if progress.num_checked:
        print_note(f"an earlier run had finished {progress.num_checked / _MILLION:.0f} M weights; they were checked")
    return Written(plan, plan.num_weights - progress.num_checked, time.monotonic() - begin)


def _warn(plan: QuantisePlan) -> None:
    for names, text in (
        (plan.requantised, "{} tensors are quantised already and are quantised again, which loses more: {}"),
        (plan.kept_wider, "{} tensors have rows that are not whole blocks, and are stored wider: {}"),
        (plan.unknown, "{} tensors are unknown, and are kept: {}"),
        (plan.left_out, "{} tensors of the source are of no use and are left out: {}"),
    ):
        if names:
            print_warning(text.format(len(names), quote_all(list(names), _NAMED)))


def _report(written: Written, *, as_json: bool) -> None:
    plan = written.plan
    bits = 8 * plan.num_bytes / plan.num_weights
    rate = written.num_weights / max(written.seconds, 1e-9)
    print_note(
        f"{len(plan.tensors)} tensors, {plan.num_weights / _MILLION:.0f} M weights: {format_bytes(plan.num_bytes)}, "
        f"{bits:.2f} bits a weight, {written.seconds:.1f} s, {rate / _MILLION:.1f} M weights/s"
    )
    paths = [str(shard.path) for shard in plan.shards]
    if not as_json:
        sys.stdout.write("".join(f"{path}\n" for path in paths))
        return
    answer = {
        "paths": paths,
        "type": plan.request.file_type,
        "bytes": plan.num_bytes,
        "weights": plan.num_weights,
        "seconds": written.seconds,
        "requantised": plan.requantised,
        "kept_wider": plan.kept_wider,
        "unknown": plan.unknown,
        "left_out": plan.left_out,
    }
    json.dump(answer, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")
