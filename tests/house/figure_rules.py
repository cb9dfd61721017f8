"""Ties the numbers of a page to records: a figure is written out anew from its record and looked for on the page.

A figure is a piece of the page with fields in it: "reads {demo.result.usage.prompt_tokens:,} tokens of it". A field is
a dotted path into the record (whole numbers index lists), or two of them with a slash between, and a format: Python's
own, or `.1 %` (a share, with a blank), `.1M` (in millions), `words` (a small number, spelled).

What is compared has every run of blanks and line breaks made one blank, and the targets of links cut out.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

import longlens

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

# A name may hold digits and is no figure: H100, Q8_0, GLM-5.2. A number after a colon, a slash or a blank is one.
_NUMBER = r"(?<![A-Za-z_\d.])(?<![A-Za-z]-)(?<!\d,)\d[\d,]*(?:\.\d+)*"
_SPELLED = rf"\b(?:{'|'.join(WORDS)})\s+(?:seconds?|minutes?|hours?|days?|times)\b"
_FIGURE = re.compile(rf"{_NUMBER}|{_SPELLED}", re.IGNORECASE)
_LINK_TARGET = re.compile(r"\]\([^)]*\)")


@dataclass(frozen=True)
class Figure:
    """A piece of the page and the file that its fields are read from: a record, a GGUF file, or `longlens`."""

    source: str
    text: str


@dataclass(frozen=True)
class Allowed:
    """A piece of the page whose numbers are not measured, and why."""

    text: str
    reason: str


@dataclass(frozen=True)
class Written:
    """A figure as the page must have it, and which characters of it came from the source."""

    text: str
    spans: tuple[range, ...]


def facts_of(source: str, root: Path) -> Any:
    """What a source says: the object of a JSON file, size and parameters of a GGUF file, the package's version."""
    path = root / source
    if source == "longlens":
        return {"version": longlens.__version__}
    if path.suffix == ".gguf":
        tensors = gguf.GGUFReader(path).tensors
        return {"bytes": path.stat().st_size, "parameters": sum(int(tensor.n_elements) for tensor in tensors)}
    return json.loads(path.read_text())


def plain(page: str) -> str:
    """The page as one line: link targets cut out, runs of blanks made one."""
    return " ".join(_LINK_TARGET.sub("]", page).split())


def write(text: str, facts: Any) -> Written:
    """Fill the fields of a figure.

    Raises:
        LookupError: a path that leads nowhere.
    """
    pieces: list[str] = []
    spans: list[range] = []
    for literal, field, spec, _ in string.Formatter().parse(" ".join(text.split())):
        pieces.append(literal)
        if field is not None:
            start = sum(map(len, pieces))
            pieces.append(" ".join(_formatted(_value(field, facts), spec or "").split()))
            spans.append(range(start, start + len(pieces[-1])))
    return Written("".join(pieces), tuple(spans))


def misprints(page: str, figures: Iterable[Figure], facts: Mapping[str, Any]) -> list[str]:
    """Refuse a figure that the page does not have exactly once as its source says it."""
    found = []
    for figure in figures:
        try:
            written = write(figure.text, facts[figure.source])
        except LookupError as missing:
            found.append(f"{figure.source}: nothing at {missing} for {figure.text!r}")
            continue
        if (times := plain(page).count(written.text)) != 1:
            found.append(f"{figure.source} says {written.text!r}; the page says so {times} times, not once")
    return found


def stale(page: str, allowed: Iterable[Allowed]) -> list[str]:
    """Refuse an exemption that the page has no use for, or that gives no reason."""
    return [
        f"{each.text!r}: not on the page, or no reason given"
        for each in allowed
        if " ".join(each.text.split()) not in plain(page) or not each.reason.strip()
    ]


def untied(page: str, figures: Iterable[Figure], allowed: Iterable[Allowed], facts: Mapping[str, Any]) -> list[str]:
    """Refuse every number on the page that no field wrote and no exemption covers.

    The fixed words of a figure cover nothing: a number typed into them is refused as if it stood alone.
    """
    line = plain(page)
    covered: set[int] = set()
    for figure in figures:
        written = write(figure.text, facts[figure.source])
        for start in _places(line, written.text):
            covered.update(start + offset for span in written.spans for offset in span)
    for each in allowed:
        text = " ".join(each.text.split())
        for start in _places(line, text):
            covered.update(range(start, start + len(text)))
    return [
        f"{hit[0]!r} in {line[max(0, hit.start() - 40) : hit.end() + 40]!r}: tied to no record"
        for hit in _FIGURE.finditer(line)
        if hit.start() not in covered
    ]


def unlinked(page: str, figures: Iterable[Figure]) -> list[str]:
    """Refuse a record that figures come from and that the page does not link to."""
    records = {figure.source for figure in figures if figure.source.startswith("benchmarks/results/")}
    return [f"{record}: not linked" for record in sorted(records) if f"]({record})" not in page]


def _places(line: str, text: str) -> list[int]:
    return [hit.start() for hit in re.finditer(re.escape(text), line)]


def _value(field: str, facts: Any) -> Any:
    path, slash, divisor = field.partition("/")
    value = _at(path, facts)
    if not slash:
        return value
    return value / (float(divisor) if divisor.isdigit() else _at(divisor, facts))


def _at(path: str, facts: Any) -> Any:
    value = facts
    for step in path.split("."):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (LookupError, TypeError, ValueError):
            raise LookupError(path) from None
    return value


def _formatted(value: Any, spec: str) -> str:
    if spec == "words":
        return WORDS[round(value)]
    if spec.endswith(" %"):
        return f"{100 * value:{spec[:-2]}f} %"
    if spec.endswith("M"):
        return f"{value / 1e6:{spec[:-1]}f}"
    return format(value, spec)
