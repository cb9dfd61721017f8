"""Draws a chart as PNG with matplotlib, in a process of its own: `python -m longlens.cli.chart_png FILE < chart.json`.

matplotlib takes longer to load than a whole table takes to compute, and it is optional. So nothing imports this
module: `cli/plan_tables.py` starts it only when a PNG is wanted, and commands stay as fast as they are without it.
"""

from __future__ import annotations

import json
import sys

from matplotlib import use  # type: ignore[import-not-found, unused-ignore]
from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]

_NUM_COLOURS = 10


def main() -> None:
    """Read a chart as JSON from stdin and write it to the file that the first argument names."""
    use("agg")
    chart = json.load(sys.stdin)
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for number, curve in enumerate(chart["curves"]):
        # matplotlib has ten colours; dashes keep the eleventh curve apart from the first.
        style = "-" if number < _NUM_COLOURS else "--"
        axes.plot(*zip(*curve["points"], strict=True), style, marker="o", markersize=3, label=curve["name"])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(chart["title"])
    axes.set_xlabel(chart["x_name"])
    axes.set_ylabel(chart["y_name"])
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small")
    figure.savefig(sys.argv[1], format="png", dpi=150)


if __name__ == "__main__":
    main()
