"""`longlens bench`: measure, compare records, draw them. Without a subcommand it measures."""

from __future__ import annotations

import click

from longlens.cli.bench_attention import ATTENTION
from longlens.cli.bench_output import keep_words
from longlens.cli.bench_records import COMPARE, PLOT
from longlens.cli.bench_run import RUN

_HELP = """Measure prefill, decode and the time to the first token.

`longlens bench [OPTIONS]` is short for `longlens bench run [OPTIONS]`; `longlens bench run --help` tells its options.
"""


class _MeasuresByDefault(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take words that begin with no subcommand for those of `run`, and keep all of them for the record."""
        keep_words(ctx, args)
        if not args or args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


COMMAND = _MeasuresByDefault(
    "bench", commands={"run": RUN, "attention": ATTENTION, "compare": COMPARE, "plot": PLOT}, help=_HELP
)
