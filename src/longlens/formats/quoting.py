"""Names out of files, written so that an error stays one line whatever the file holds."""

from __future__ import annotations

_LONGEST = 96


def quote(name: str) -> str:
    """Write a name in quotes, control characters and lone surrogates escaped, cut after 96 characters."""
    return repr(name) if len(name) <= _LONGEST else f"{name[:_LONGEST]!r}..."


def quote_all(names: list[str], most: int = 8) -> str:
    """Write a list of names in quotes, and how many more there are beyond `most`."""
    rest = len(names) - most
    return ", ".join(quote(name) for name in names[:most]) + (f" and {rest} more" if rest > 0 else "")
