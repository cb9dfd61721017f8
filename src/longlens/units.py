"""Sizes in bytes, spelled the way people write them."""

from __future__ import annotations

import re

from longlens.errors import UsageError

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

_UNITS = {"": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": TIB}
_DECIMAL = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_LONGEST_NUMBER = 30
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def format_bytes(num_bytes: int) -> str:
    """Write a size with a binary unit and one decimal: `91.0 GiB`; below 1 KiB exact bytes: `512 B`."""
    if num_bytes < KIB:
        return f"{num_bytes} B"
    for unit, name in ((KIB, "KiB"), (MIB, "MiB"), (GIB, "GiB")):
        # What rounds up to the next unit is written in it: 1.0 MiB, not 1024.0 KiB.
        if round(num_bytes / unit, 1) < KIB:
            return f"{num_bytes / unit:.1f} {name}"
    return f"{num_bytes / TIB:.1f} TiB"


def parse_bytes(text: str) -> int:
    """Read a size such as `48GiB`, `1.5 GiB`, `500MB` or `4096`, in bytes.

    Raises:
        UsageError: the text is not a number with a known unit.
    """
    match = _PATTERN.fullmatch(text)
    unit = _UNITS.get(match[2].upper(), _DECIMAL.get(match[2].upper())) if match else None
    if match is None or unit is None or len(match[1]) > _LONGEST_NUMBER:
        raise UsageError(f"{text!r} is not a size", "write a number and a unit, for example 48GiB or 500MB")
    return round(float(match[1]) * unit)
