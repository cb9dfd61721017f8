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
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def format_bytes(num_bytes: int) -> str:
    """Write a size with a binary unit and one decimal: `91.0 GiB`; below 1 KiB exact bytes: `512 B`."""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.1f} {name}"
    return f"{num_bytes} B"


def parse_bytes(text: str) -> int:
    """Read a size such as `48GiB`, `1.5 GiB`, `500MB` or `4096`, in bytes.

    Raises:
        UsageError: the text is not a number with a known unit.
    """
    match = _PATTERN.fullmatch(text)
    unit = _UNITS.get(match[2].upper(), _DECIMAL.get(match[2].upper())) if match else None
    if match is None or unit is None:
        raise UsageError(f"{text!r} is not a size", "write a number and a unit, for example 48GiB or 500MB")
    return round(float(match[1]) * unit)
