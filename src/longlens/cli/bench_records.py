"""`longlens bench compare` and `longlens bench plot`: what can be done with records."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from longlens.bench.compare import Change, Comparison, compare
from longlens.bench.plot import Picture, picture_of
from longlens.bench.record import read_record
from longlens.bench.report import number
from longlens.cli.messages import print_note, print_warning
from longlens.errors import UsageError

EXIT_REFUSED, EXIT_SLOWER = 1, 3
_PICTURES = (".png", ".svg")
_DRAW_SECONDS = 120
_FILE = click.Path(path_type=Path)


@click.command(
    "compare",
    short_help="say what changed between two records",
    help="Say what changed from record A to record B, and whether it is more than the spread. "
    "Exit code: 0 nothing is slower, 3 something is, 1 the records or a figure cannot be compared.",
)
@click.argument("first", metavar="A", type=_FILE)
@click.argument("second", metavar="B", type=_FILE)
@click.option("--json", "is_json", is_flag=True, help="print one JSON object")
def COMPARE(first: Path, second: Path, *, is_json: bool) -> int:  # noqa: N802 (a command)
    """Compare two records."""
    comparison = compare(read_record(first), read_record(second))
    for note in comparison.notes:
        print_warning(note)
    if is_json:
        json.dump(_as_json(comparison), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(_as_text(comparison))
    if any(change.refusal for change in comparison.changes):
        return EXIT_REFUSED
    return EXIT_SLOWER if any(change.verdict == "slower" for change in comparison.changes) else 0


@click.command(
    "plot",
    short_help="draw records as curves",
    help="Draw records as curves over depth: longlens bench plot A.json B.json out.png",
)
@click.argument("files", metavar="FILE... OUT.png|OUT.svg", nargs=-1, type=_FILE)
def PLOT(files: tuple[Path, ...]) -> int:  # noqa: N802 (a command)
    """Draw records."""
    if len(files) < 2:
        raise UsageError("plot takes records and a picture", "longlens bench plot A.json out.png")
    *records, path = files
    _check_picture(path)
    if len({record.stem for record in records}) < len(records):
        raise UsageError("two of the records have the same name", "name files with different names")
    _draw(picture_of({record.stem: read_record(record) for record in records}), path)
    print_note(f"wrote {path}")
    return 0


def _check_picture(path: Path) -> None:
    if path.suffix not in _PICTURES:
        raise UsageError(f"{path} is no picture that can be drawn", "end with out.png or out.svg")
    if find_spec("matplotlib") is None:
        raise UsageError("pictures are drawn by matplotlib, which is not installed", "pip install 'longlens[plot]'")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path} cannot be written: its folder is missing", "name a file in a folder that exists")


def _draw(picture: Picture, path: Path) -> None:
    command = [sys.executable, "-m", "longlens.cli.bench_picture", str(path)]
    content = json.dumps(picture.as_json())
    run = subprocess.run(command, input=content, capture_output=True, text=True, timeout=_DRAW_SECONDS, check=False)
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"matplotlib could not draw {path}: {last}", "name a file in a folder that you can write to")


def _as_text(comparison: Comparison) -> str:
    what = "nothing tells A and B apart" if comparison.difference is None else f"what differs: {comparison.difference}"
    names = [f"{change.first.name}, {change.first.label}" for change in comparison.changes]
    width = max(map(len, names))
    lines = [what]
    for name, change in zip(names, comparison.changes, strict=True):
        lines.append(
            f"{name:<{width}}  {_values(change)}  x{change.ratio:.3f}  p {change.probability:.3f}  {_verdict(change)}"
        )
    lines += [f"only in one record: {name}" for name in comparison.alone]
    return "\n".join(lines) + "\n"


def _values(change: Change) -> str:
    first, second = change.first, change.second
    return (
        f"{number(first.median)} ± {number(first.deviation)} -> {number(second.median)} ± "
        f"{number(second.deviation)} {first.unit}"
    )


def _verdict(change: Change) -> str:
    return f"refused: {change.refusal}" if change.refusal else change.verdict


def _as_json(comparison: Comparison) -> dict[str, object]:
    return {
        "difference": None if comparison.difference is None else str(comparison.difference),
        "changes": [
            {
                "name": change.first.name,
                "label": change.first.label,
                "unit": change.first.unit,
                "first": change.first.median,
                "second": change.second.median,
                "ratio": change.ratio,
                "probability": change.probability,
                "verdict": change.verdict,
                "refusal": change.refusal,
            }
            for change in comparison.changes
        ],
        "alone": list(comparison.alone),
        "notes": list(comparison.notes),
    }
