"""What goes to stderr: faults with their mend, warnings, and notes."""

from __future__ import annotations

import sys


def print_fault(fault: str, mend: str) -> None:
    """Print an error in its two lines."""
    _write(fault)
    _write(f"hint: {mend}")


def print_warning(text: str) -> None:
    """Print a warning in a line."""
    _write(f"warning: {text}")


def print_note(text: str) -> None:
    """Print a line of the start log."""
    _write(text)


def _write(line: str) -> None:
    # Text of a file may hold what the terminal cannot show, or take for a command.
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(shown.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()
