"""Figures for people and programs: a table, JSON, JSON lines, CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from longlens.bench.figure import Figure, curves
from longlens.bench.record import Record
from longlens.units import format_bytes

ReportFormat = Literal["md", "json", "jsonl", "csv"]
REPORT_FORMATS: tuple[ReportFormat, ...] = get_args(ReportFormat)
_COLUMNS = ("test", "cache", "median", "unit", "min", "max", "mad", "n", "cores", "peak memory", "tokens")


def format_record(record: Record, kind: ReportFormat) -> str:
    """A whole record in one of the formats.

    JSON is the record as `--output` writes it; JSON lines are one figure a line, each with what it depends on; CSV is
    one figure a row.
    """
    if kind == "json":
        return json.dumps(record.as_json(), indent=1) + "\n"
    if kind == "jsonl":
        about = {key: value for key, value in record.as_json().items() if key != "figures"}
        return "".join(json.dumps({**figure.as_json(), **about}) + "\n" for figure in record.figures)
    if kind == "csv":
        return _csv(record)
    by_depth = depth_table(record.figures)
    return f"{_heading(record)}\n\n{table(record.figures)}" + (f"\n{by_depth}" if by_depth else "")


def table(figures: Iterable[Figure]) -> str:
    """A Markdown table, columns aligned."""
    return _aligned([_COLUMNS, *(_row(figure) for figure in figures)])


def number(value: float) -> str:
    """Four significant digits, without an exponent where people do not expect one."""
    if value == 0 or not 1e-4 <= abs(value) < 1e7:
        return f"{value:.4g}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def depth_table(figures: Sequence[Figure]) -> str:
    """Medians of curves, a row for each depth; nothing where no curve has two depths."""
    found = curves(figures)
    if max((len(curve) for curve in found.values()), default=0) < 2:
        return ""
    depths = sorted({figure.depth for figure in figures})
    rows = [("depth", *(f"{kind}, {unit}" for kind, unit in found))]
    for depth in depths:
        at = [next((figure for figure in curve if figure.depth == depth), None) for curve in found.values()]
        rows.append((str(depth), *("" if figure is None else number(figure.median) for figure in at)))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    lines.insert(1, f"| {' | '.join('-' * width for width in widths)} |")
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> tuple[str, ...]:
    memory = figure.memory.peak_rss_bytes
    return (
        figure.name,
        figure.label,
        number(figure.median),
        figure.unit,
        number(min(figure.values)),
        number(max(figure.values)),
        number(figure.deviation),
        str(len(figure.samples)),
        f"{figure.cpu_per_wall:.2f}",
        "unknown" if memory is None else format_bytes(memory),
        figure.digest,
    )


def _heading(record: Record) -> str:
    model, plan, code = record.model, record.plan, record.code
    how = ""
    if plan:
        how = (
            f"; {plan.get('device')}, {plan.get('num_threads')} threads, weights {plan.get('compute_element')}, "
            f"cache {plan.get('cache_element')}"
        )
    return (
        f"{model.get('name')}, {model.get('parameters', 0):,} parameters{how}\n"
        f"{record.machine.get('cpu_name')}; longlens {code.get('longlens')} at {code.get('commit')}, "
        f"torch {code.get('torch')}; {record.date}"
    )


def _csv(record: Record) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = {
        "model": record.model.get("name"),
        "commit": record.code.get("commit"),
        "machine": record.machine.get("cpu_name"),
        "date": record.date,
    }
    rows = [_flat(figure) for figure in record.figures]
    writer.writerow([*about, *(rows[0] if rows else ())])
    writer.writerows([*about.values(), *row.values()] for row in rows)
    return text.getvalue()


def _flat(figure: Figure) -> dict[str, object]:
    cells: dict[str, object] = {}
    for key, value in figure.as_json().items():
        cells[key] = " ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
    return cells
