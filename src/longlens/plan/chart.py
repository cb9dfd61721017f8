"""Curves on two logarithmic axes, and how they are drawn as SVG without a library."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

_WIDTH, _LEAST_HEIGHT, _LEGEND_LINE = 960, 500, 20
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 350, 56, 60
_INKS = ("#1f6feb", "#cf222e", "#1a7f37", "#8250df", "#9a6700", "#0a7ea4", "#bf3989", "#57606a")
_STYLE = "font-family='ui-monospace, monospace' font-size='12'"
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Curve:
    """A named line through points (x, y), both above zero."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """Curves with the names of the axes; both are logarithmic."""

    title: str
    x_name: str
    y_name: str
    curves: tuple[Curve, ...]

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        curves = [{"name": curve.name, "points": [list(point) for point in curve.points]} for curve in self.curves]
        return {"title": self.title, "x_name": self.x_name, "y_name": self.y_name, "curves": curves}


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis: whole powers of the base at both ends, and the pixels where they lie."""

    low: int
    high: int
    base: float
    first_pixel: float
    last_pixel: float

    def at(self, value: float) -> float:
        share = (math.log(value, self.base) - self.low) / (self.high - self.low)
        return self.first_pixel + share * (self.last_pixel - self.first_pixel)

    def ticks(self) -> Iterator[float]:
        return (self.base**power for power in range(self.low, self.high + 1))


def draw_chart(chart: Chart) -> str:
    """Draw curves as an SVG document: x in powers of two, y in powers of ten."""
    points = [point for curve in chart.curves for point in curve.points]
    x_axis = _axis([x for x, _ in points], 2, _LEFT, _WIDTH - _RIGHT)
    height = max(_LEAST_HEIGHT, _TOP + _LEGEND_LINE * (len(chart.curves) + 1))
    y_axis = _axis([y for _, y in points], 10, height - _BOTTOM, _TOP)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' {_STYLE}>",
        "<rect width='100%' height='100%' fill='white'/>",
        _text(_LEFT, 26, chart.title, "font-size='15'"),
        _text(_LEFT, 44, chart.y_name, "fill='#57606a'"),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, height - 14, chart.x_name, "fill='#57606a' text-anchor='middle'"),
        *_grid(x_axis, y_axis),
        *(part for number, curve in enumerate(chart.curves) for part in _curve(number, curve, x_axis, y_axis)),
        "</svg>\n",
    ]
    return "".join(parts)


def _axis(values: list[float], base: float, first_pixel: float, last_pixel: float) -> _Axis:
    # A value that is a power of the base but for rounding is to be the end, not to open another step.
    low = math.floor(math.log(min(values, default=1), base) + 1e-9)
    high = math.ceil(math.log(max(values, default=base), base) - 1e-9)
    return _Axis(low, max(high, low + 1), base, first_pixel, last_pixel)


def _grid(x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    for value in x_axis.ticks():
        x = x_axis.at(value)
        yield f"<path d='M{x:.1f} {_TOP}V{y_axis.first_pixel}' stroke='#eaeef2'/>"
        yield _text(x, y_axis.first_pixel + 18, _binary(value), "text-anchor='middle'")
    for value in y_axis.ticks():
        y = y_axis.at(value)
        yield f"<path d='M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}' stroke='#d0d7de'/>"
        yield _text(_LEFT - 8, y + 4, _decimal(value), "text-anchor='end'")


def _curve(number: int, curve: Curve, x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    # Dashed when the inks begin anew, so that no two curves look alike.
    dashes = f" stroke-dasharray='{4 * (number // len(_INKS))}'" if number >= len(_INKS) else ""
    ink = f"stroke='{_INKS[number % len(_INKS)]}'{dashes}"
    pixels = [f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in curve.points]
    yield f"<polyline points='{' '.join(pixels)}' fill='none' {ink} stroke-width='2'/>"
    y = _TOP + 10 + number * _LEGEND_LINE
    left = _WIDTH - _RIGHT + 16
    yield f"<path d='M{left} {y}h18' {ink} stroke-width='3'/>"
    yield _text(left + 26, y + 4, curve.name, "")


def _text(x: float, y: float, words: str, style: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(words)}</text>"


def _binary(value: float) -> str:
    for unit, name in ((2**20, "M"), (2**10, "K")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _decimal(value: float) -> str:
    for unit, name in _PREFIXES:
        if value >= unit:
            return f"{value / unit:g} {name}"
    return f"{value:g}"
