from __future__ import annotations

from importlib import import_module

import click
import pytest

from longlens.cli.commands import COMMANDS, NOT_BUILT_YET


@pytest.mark.parametrize("name", COMMANDS)
def test_every_entry_leads_to_a_command(name: str) -> None:
    assert isinstance(import_module(COMMANDS[name].module).COMMAND, click.Command)


def test_the_table_and_the_promises_hold_every_command_of_the_design_once() -> None:
    designed = {
        *("ask", "chat", "run", "serve", "launch", "pull", "inspect", "plan"),
        *("bench", "pack", "cache", "doctor", "quantize", "tune", "eval", "why"),
    }
    assert sorted([*COMMANDS, *NOT_BUILT_YET]) == sorted(designed)
