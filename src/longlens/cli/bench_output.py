"""What the commands that measure have in common: repetitions, formats, the record, and what is said meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click

from longlens.bench.figure import Figure
from longlens.bench.record import Record, check_output, write_record
from longlens.bench.report import REPORT_FORMATS, ReportFormat, format_record, number
from longlens.cli.interruption import Interruption
from longlens.cli.messages import print_fault, print_note
from longlens.errors import CancelledError

DEFAULT_REPETITIONS = 5
_WORDS = "longlens.bench.words"

_OPTIONS = (
    click.option("-r", "--repetitions", type=int, default=DEFAULT_REPETITIONS, show_default=True, metavar="N"),
    click.option("-s", "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, metavar="N"),
    click.option(
        *("-o", "--format", "report_format"),
        type=click.Choice(REPORT_FORMATS),
        default="md",
        show_default=True,
        help="on standard output",
    ),
    click.option(
        "--output", type=click.Path(path_type=Path), metavar="FILE", help="write the record; never over another"
    ),
    click.option("-q", "--quiet", "is_quiet", is_flag=True, help="say nothing while measuring"),
)


@dataclass(frozen=True)
class OutputWishes:
    """What the command line says about samples and what becomes of them."""

    repetitions: int
    seed: int
    report_format: ReportFormat
    output: Path | None
    is_quiet: bool

    def check(self) -> None:
        """Refuse a record that could not be written, before anything is measured.

        Raises:
            UsageError: as `bench.record.check_output`.
        """
        if self.output is not None:
            check_output(self.output, self.repetitions)

    def note(self, text: str) -> None:
        """Say what is being done, unless it is quiet."""
        if not self.is_quiet:
            print_note(text)


def keep_words(context: click.Context, words: Sequence[str]) -> None:
    """Remember the words of the command line, for the record."""
    context.meta[_WORDS] = ("longlens", "bench", *words)


def kept_words() -> tuple[str, ...]:
    """The words that were kept; nothing if the command was not called through `bench`."""
    return cast("tuple[str, ...]", click.get_current_context().meta.get(_WORDS, ()))


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options above; it receives them as `output_wishes`."""

    def bundled(**values: Any) -> object:
        names = OutputWishes.__dataclass_fields__
        return command(output_wishes=OutputWishes(**{name: values.pop(name) for name in names}), **values)

    bundled.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
    for option in reversed(_OPTIONS):
        bundled = option(bundled)
    return bundled


def take_figures(
    figures: Iterator[Figure],
    record_of: Callable[[tuple[Figure, ...]], Record],
    wishes: OutputWishes,
    interruption: Interruption,
) -> int:
    """Let figures be measured, print them, and write the record.

    What was measured before a fault or a signal is printed all the same; a record is written only of everything.

    Returns:
        The exit code: that of the signal if one came.

    Raises:
        LonglensError: whatever else ended measuring.
        UsageError: the record could not be written.
    """
    try:
        taken = _printed(figures, record_of, wishes)
    except CancelledError:
        if interruption.signal_number is None:
            raise
        print_fault("measuring was stopped", "run it again; figures that were printed are whole")
        return interruption.exit_code
    if taken and wishes.output is not None:
        write_record(wishes.output, record_of(taken))
        wishes.note(f"wrote {wishes.output}")
    return interruption.exit_code


def _printed(
    figures: Iterator[Figure], record_of: Callable[[tuple[Figure, ...]], Record], wishes: OutputWishes
) -> tuple[Figure, ...]:
    taken: list[Figure] = []
    try:
        for figure in figures:
            taken.append(figure)
            wishes.note(f"{figure.name}, {figure.label}: {number(figure.median)} {figure.unit}")
    finally:
        if taken:
            record = record_of(tuple(taken))
            sys.stdout.write(format_record(record, wishes.report_format))
            sys.stdout.flush()
    return tuple(taken)
