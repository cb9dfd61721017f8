"""A table of derived figures, and how it is written: for people, as JSON, as CSV. All three show the same numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Literal

from longlens.plan.chart import Chart
from longlens.units import GIB, KIB, MIB, format_bytes

Unit = Literal["text", "tokens", "bytes", "bytes a token", "flops", "ratio", "seconds", "tokens/s", "percent"]
Cell = str | int | float | None

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True)
class Column:
    """A column's name, and the unit of its numbers."""

    name: str
    unit: Unit = "text"


@dataclass(frozen=True)
class Table:
    """Figures in rows, with what must be known to read them.

    Attributes:
        name: as it is asked for.
        title: one line.
        columns: names and units.
        rows: raw numbers, in the unit itself: bytes, operations, seconds. None is a figure that does not exist.
        notes: definitions and sources, a line each.
        chart: the same figures as curves, if they are any.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    chart: Chart | None = None

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps; a row is an object with the columns' names."""
        return {
            "table": self.name,
            "title": self.title,
            "columns": [{"name": column.name, "unit": column.unit} for column in self.columns],
            "rows": [dict(zip((column.name for column in self.columns), row, strict=True)) for row in self.rows],
            "notes": list(self.notes),
        }

    def as_csv(self) -> str:
        """Comma-separated raw numbers; the unit stands in the header. What does not exist is empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(c.name if c.unit == "text" else f"{c.name} [{c.unit}]" for c in self.columns)
        writer.writerows(self.rows)
        return out.getvalue()

    def as_text(self) -> str:
        """Aligned columns and the notes below them; numbers rounded, with units."""
        header = [column.name for column in self.columns]
        body = [[format_cell(c, k.unit) for c, k in zip(row, self.columns, strict=True)] for row in self.rows]
        widths = [max(map(len, cells)) for cells in zip(header, *body, strict=True)]
        lines = [self.title, ""]
        for cells in (header, ["-" * width for width in widths], *body):
            parts = [
                cell.ljust(width) if column.unit == "text" else cell.rjust(width)
                for cell, width, column in zip(cells, widths, self.columns, strict=True)
            ]
            lines.append("  ".join(parts).rstrip())
        if self.notes:
            lines += ["", *(f"* {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def format_cell(cell: Cell, unit: Unit) -> str:
    """Write a figure for people: `104.3 G`, `93.00 GiB`, `1M`, `2.74x`, `12.5 min`; `-` where there is none."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    match unit:
        case "tokens":
            return format_tokens(int(cell))
        case "bytes":
            return _format_gib(int(cell))
        case "bytes a token":
            return f"{cell:,}"
        case "flops":
            return format_flops(cell)
        case "ratio":
            return f"{cell:.2f}x"
        case "percent":
            return f"{cell:.1f} %"
        case "seconds":
            return format_seconds(cell)
        case "tokens/s":
            return f"{cell:,.0f}" if cell >= 100 else f"{cell:.2f}"
        case "text":
            return str(cell)


def format_tokens(tokens: int) -> str:
    """Write a context as people do: `8K`, `1M` for whole multiples of 1,024; all digits otherwise."""
    if tokens and tokens % MIB == 0:
        return f"{tokens // MIB}M"
    if tokens and tokens % KIB == 0:
        return f"{tokens // KIB}K"
    return f"{tokens:,}"


def format_flops(flops: float) -> str:
    """Write operations with one decimal: `284.6 G`, `11,470.5 G`, `201.1 P`.

    Thousands of G stay G, so that a token's operations are read in one unit at every context.
    """
    if flops >= 1e14:
        return f"{flops / 1e15:,.1f} P"
    return f"{flops / 1e9:,.1f} G" if flops >= 1e9 else f"{flops / 1e6:,.1f} M"


def format_seconds(seconds: float) -> str:
    """Write a time in the unit that people would use: `320 ms`, `12.3 s`, `12.5 min`, `3.4 h`, `2.1 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.1f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _DAY:.1f} d"


def _format_gib(num_bytes: int) -> str:
    """Two decimals of GiB, as tables of caches are written, unless they would show nothing."""
    return f"{num_bytes / GIB:,.2f} GiB" if num_bytes >= GIB // 10 else format_bytes(num_bytes)
