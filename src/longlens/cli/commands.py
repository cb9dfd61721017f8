"""The one table of commands. A command's module is imported when the command is run, so that the rest starts fast."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class CommandEntry(NamedTuple):
    """Where a command is, and what it does in a line."""

    module: str
    summary: str


COMMANDS: Mapping[str, CommandEntry] = MappingProxyType(
    {
        "ask": CommandEntry("longlens.cli.ask", "answer a question about a repository, with the places looked at"),
        "chat": CommandEntry("longlens.cli.chat", "talk with the model in the terminal"),
        "run": CommandEntry("longlens.cli.run", "answer one prompt"),
        "pull": CommandEntry("longlens.cli.pull", "download a model from Hugging Face"),
        "inspect": CommandEntry("longlens.cli.inspect", "show what a checkpoint holds"),
    }
)
NOT_BUILT_YET = (
    *("serve", "launch", "plan", "bench", "pack", "cache"),
    *("doctor", "quantize", "tune", "eval", "why"),
)
