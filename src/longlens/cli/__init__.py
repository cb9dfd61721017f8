"""The command line: `longlens run`, `longlens inspect`."""

from longlens.cli.program import main

__all__ = ["main"]
