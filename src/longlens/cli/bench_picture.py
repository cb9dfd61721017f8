"""Draws a picture of records with matplotlib, in a process of its own.

    python -m longlens.cli.bench_picture FILE < picture.json

matplotlib is optional, and loading it would be part of the memory that `bench` measures; so nothing imports this
module, and `cli/bench_records.py` starts it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from matplotlib import use  # type: ignore[import-not-found, unused-ignore]
from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]

_INCHES = (9.0, 5.0)


def main() -> None:
    """Read a picture as JSON from stdin and write it to the file that the first argument names."""
    use("agg")
    panels = json.load(sys.stdin)["panels"]
    figure = Figure(figsize=(_INCHES[0], _INCHES[1] * len(panels)), layout="constrained")
    for place, panel in enumerate(panels, start=1):
        _draw(figure.add_subplot(len(panels), 1, place), panel)
    figure.savefig(sys.argv[1], dpi=150)


def _draw(axes: Any, panel: dict[str, Any]) -> None:
    for line in panel["lines"]:
        spread = [line["below"], line["above"]]
        axes.errorbar(line["depths"], line["medians"], yerr=spread, marker="o", markersize=4, label=line["name"])
    if panel["has_log_depths"]:
        depths = sorted({depth for line in panel["lines"] for depth in line["depths"]})
        axes.set_xscale("log", base=2)
        axes.set_xticks(depths, [f"{depth:,}" for depth in depths])
    axes.set_xlabel("tokens in the cache")
    axes.set_ylabel(panel["unit"])
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")


if __name__ == "__main__":
    main()
