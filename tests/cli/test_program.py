from __future__ import annotations

import subprocess
import sys
import time

import pytest

from longlens import __version__
from longlens.cli.commands import COMMANDS, NOT_BUILT_YET
from longlens.cli.program import main
from tests.cli.terminal import TINY, environment, fault_and_mend, longlens


def test_help_names_every_command_and_imports_no_torch() -> None:
    probe = "import sys; from longlens.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False, env=environment())
    assert result.returncode == 0
    assert all(name in result.stdout.decode() for name in COMMANDS)


def test_inspect_imports_no_torch() -> None:
    probe = f"import sys; from longlens.cli import main; main(['inspect', {TINY!r}]); sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False, env=environment())
    assert result.returncode == 0, result.stderr.decode()


def test_help_starts_in_a_blink() -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        longlens("--help")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.0


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"longlens {__version__}\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_goes_to_stdout(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == (0 if words else 2)
    assert capsys.readouterr().out.startswith("usage: longlens COMMAND")


def test_a_misspelled_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspct"]) == 2
    assert "did you mean longlens inspect?" in capsys.readouterr().err


@pytest.mark.parametrize("name", NOT_BUILT_YET)
def test_a_command_that_is_not_built_yet_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 2
    assert "not built yet" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"longlens {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-m", TINY, "-p", "x", "--no-such-flag"],
        ["run", "-m", TINY, "-p", "x", "-n", "many"],
        ["run", "-p", "x"],
    ],
)
def test_a_wrong_flag_or_value_is_wrong_usage_with_fault_and_mend(words: list[str]) -> None:
    result = longlens(*words)
    fault, mend = fault_and_mend(result)
    assert result.returncode == 2
    assert fault
    assert mend == "see longlens run --help"
