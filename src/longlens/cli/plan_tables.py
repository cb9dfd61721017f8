"""Prints a table of `longlens plan`, as text, JSON or CSV, and draws its curves."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from longlens.cli.messages import print_note
from longlens.cli.write_file import write_whole
from longlens.errors import UsageError
from longlens.plan.chart import Chart, draw_chart
from longlens.plan.presets import ModelPreset
from longlens.plan.table import Table
from longlens.plan.tables import DEFAULT_MODEL, make_table

_DRAW_SECONDS = 120


def print_table(
    name: str,
    *,
    model: ModelPreset | str | None = None,
    as_json: bool = False,
    as_csv: bool = False,
    plot: Path | None = None,
) -> None:
    """Write a table to stdout; with `plot`, draw it as well.

    Args:
        name: one of `plan.tables.TABLES`.
        model: a preset or its name; GLM-5.2 if None.
        as_json: one JSON object.
        as_csv: comma-separated raw numbers.
        plot: a file that ends in .svg or .png.

    Raises:
        UsageError: no such table or preset, both forms at once, or a file that cannot be drawn to.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv are two forms of one table", "choose one of them")
    table = make_table(name, model or DEFAULT_MODEL)
    if plot is not None:
        _plot(table, plot)
    if as_json:
        json.dump(table.as_json(), sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(table.as_csv() if as_csv else table.as_text())


def _plot(table: Table, path: Path) -> None:
    if table.chart is None:
        raise UsageError(f"the table {table.name} has no curves to draw", "--csv gives its figures")
    if path.suffix.lower() == ".svg":
        write_whole(path, draw_chart(table.chart))
    elif path.suffix.lower() == ".png":
        _draw_png(table.chart, path)
    else:
        raise UsageError(f"{path} is neither .svg nor .png", "name a file that ends in .svg or .png")
    print_note(f"wrote {path}")


def _draw_png(chart: Chart, path: Path) -> None:
    if find_spec("matplotlib") is None:
        raise UsageError(
            "a PNG is drawn with matplotlib, which is not installed",
            "pip install 'longlens[plot]', or name a file that ends in .svg",
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path} cannot be written: its folder is missing", "name a file in a folder that exists")
    command = [sys.executable, "-m", "longlens.cli.chart_png", str(path)]
    run = subprocess.run(
        command, input=json.dumps(chart.as_json()), capture_output=True, text=True, timeout=_DRAW_SECONDS, check=False
    )
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"matplotlib could not draw {path}: {last}", "name a file that ends in .svg")
