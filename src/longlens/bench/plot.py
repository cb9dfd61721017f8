"""Records as curves over depth: what is to be drawn. Drawing needs an optional library and is done elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from longlens.bench.figure import curves
from longlens.bench.record import Record
from longlens.errors import UsageError

# Above this ratio of the largest depth to the smallest, equal factors are drawn as equal distances.
_WIDE_RANGE = 8


@dataclass(frozen=True)
class Line:
    """A curve: depths, medians, and how far the smallest and the largest sample lie from each median."""

    name: str
    depths: tuple[int, ...]
    medians: tuple[float, ...]
    below: tuple[float, ...]
    above: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """The curves of one unit."""

    unit: str
    has_log_depths: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Picture:
    """One panel for each unit, one below the other."""

    panels: tuple[Panel, ...]

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return asdict(self)


def picture_of(records: Mapping[str, Record]) -> Picture:
    """Lay out every curve of some records.

    Args:
        records: by the name that the legend shows where there are several.

    Raises:
        UsageError: they have no figures.
    """
    lines: dict[str, list[Line]] = {}
    for name, record in records.items():
        for (kind, unit), figures in curves(record.figures).items():
            line = Line(
                name=f"{kind} ({name})" if len(records) > 1 else kind,
                depths=tuple(figure.depth for figure in figures),
                medians=tuple(figure.median for figure in figures),
                below=tuple(figure.median - min(figure.values) for figure in figures),
                above=tuple(max(figure.values) - figure.median for figure in figures),
            )
            lines.setdefault(unit, []).append(line)
    if not lines:
        raise UsageError("the records have no figures to draw", "name files that bench --output wrote")
    return Picture(tuple(Panel(unit, _is_wide(found), tuple(found)) for unit, found in lines.items()))


def _is_wide(lines: list[Line]) -> bool:
    depths = [depth for line in lines for depth in line.depths]
    return min(depths) > 0 and max(depths) >= _WIDE_RANGE * min(depths)
