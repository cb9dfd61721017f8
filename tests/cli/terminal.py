"""Runs the command line as a user does: a process of its own, on fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures"
TINY = str(FIXTURES / "tiny-glm-F32.gguf")


def longlens(*words: str, stdin: bytes = b"", timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    """One finished call of `longlens`, its output as bytes."""
    return subprocess.run(
        [sys.executable, "-m", "longlens", *words],
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """This process's environment without what would change the output."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")} | {"COLUMNS": "120"}


def fault_and_mend(result: subprocess.CompletedProcess[bytes]) -> tuple[str, str]:
    """The two lines of an error: the last ones of stderr. Nothing is on stdout."""
    lines = result.stderr.decode().splitlines()
    assert len(lines) >= 2, lines
    assert lines[-1].startswith("hint: "), lines
    assert result.stdout == b""
    assert not any("Traceback" in line for line in lines)
    return lines[-2], lines[-1].removeprefix("hint: ")
