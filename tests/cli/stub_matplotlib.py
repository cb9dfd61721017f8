"""Stands in for matplotlib, which is optional: writes what it was told to draw into the file, as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

_PACKAGE = """
def use(name):
    assert name == "agg"
"""
_FIGURE = """
import json

class Recorder:
    def __init__(self, calls):
        self.calls = calls

    def __getattr__(self, name):
        def record(*arguments, **named):
            self.calls.append({"name": name, "arguments": arguments, **named})
        return record

class Figure:
    def __init__(self, **_):
        self.calls = []

    def add_subplot(self, *place):
        self.calls.append({"name": "add_subplot", "arguments": place})
        return Recorder(self.calls)

    def savefig(self, path, **_):
        with open(path, "w") as file:
            json.dump(self.calls, file)
"""


def install_stub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes, and searches of this one, find the stand-in first."""
    package = folder / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_PACKAGE)
    (package / "figure.py").write_text(_FIGURE)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
