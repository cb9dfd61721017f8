from __future__ import annotations

import json

import click
import pytest

from longlens.cli.bench import COMMAND
from tests.cli.bench_words import MODEL, bench


@pytest.mark.parametrize("first", [(), ("run",)])
def test_without_a_subcommand_it_measures(first: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*first, *MODEL, "-p", "8", "-n", "0", "-r", "1", "-o", "json") == 0
    record = json.loads(capsys.readouterr().out)
    assert [figure["name"] for figure in record["figures"]] == ["pp8"]
    assert record["command"][:2] == ["longlens", "bench"]
    assert record["command"][-2:] == ["-o", "json"]


def test_help_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--help") == 0
    shown = capsys.readouterr().out
    assert "longlens bench" in shown
    assert all(name in shown for name in COMMAND.commands)


def test_a_word_that_is_neither_option_nor_subcommand_is_wrong_usage() -> None:
    with pytest.raises(click.UsageError, match="comparr"):
        bench("comparr", "a.json")
