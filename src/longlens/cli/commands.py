"""The one table of commands. A command's module is imported when the command is run, so that the rest starts fast."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple


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
        "plan": CommandEntry("longlens.cli.plan", "predict memory and time of a model on this machine or another"),
        "quantize": CommandEntry("longlens.cli.quantize", "write a model as a GGUF file of another type"),
        "bench": CommandEntry("longlens.cli.bench", "measure prefill, decode and time to the first token"),
    }
)
NOT_BUILT_YET = ("serve", "launch", "pack", "cache", "doctor", "tune", "eval", "why")

# Parts of commands that need what the rest of the command does not: torch, the hub's client, or a long import.
PARTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "plan --probe": ("longlens.cli.plan_probe", "measure_and_keep"),
        "plan ORG/REPO": ("longlens.cli.plan_remote", "remote_model"),
        "plan --advise": ("longlens.cli.plan_advise", "print_advice"),
        "plan --advise, options": ("longlens.cli.plan_advise", "advice_options"),
        "plan --advise, place": ("longlens.plan.advice_for", "Place"),
        "plan --table": ("longlens.cli.plan_tables", "print_table"),
        "plan --score": ("longlens.cli.plan_score", "print_score"),
    }
)


def load_command(name: str) -> Any:
    """Import a command's module and give its click command."""
    return import_module(COMMANDS[name].module).COMMAND


def load_part(name: str) -> Any:
    """Import the function behind one of `PARTS`."""
    module, function = PARTS[name]
    return getattr(import_module(module), function)
