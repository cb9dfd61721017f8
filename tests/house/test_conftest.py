"""The guards of conftest.py hold."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.house.tree_rules import REPOSITORY


def test_a_connection_fails_the_test_that_opens_it() -> None:
    with socket.socket() as connection, pytest.raises(pytest.fail.Exception, match="used the network"):
        connection.connect(("127.0.0.1", 9))


def test_a_name_lookup_fails_the_test_that_asks() -> None:
    with pytest.raises(pytest.fail.Exception, match="network address"):
        socket.create_connection(("example.org", 80))


def test_sockets_between_processes_of_this_machine_stay_open(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert listener.getsockname() == str(tmp_path / "s")


def run_pytest(folder: Path, source: str, *, ci: str) -> str:
    (folder / "conftest.py").write_text((REPOSITORY / "tests/conftest.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = cuda: needs a device\n")
    (folder / "test_it.py").write_text(textwrap.dedent(source))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    environment = {"CI": ci, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


SKIPPED = """
    import pytest

    def test_a():
        pytest.skip("not today")
"""


def test_a_skip_fails_in_ci_and_only_there(tmp_path: Path) -> None:
    assert "1 failed" in run_pytest(tmp_path, SKIPPED, ci="true")
    assert "1 skipped" in run_pytest(tmp_path, SKIPPED, ci="")


def test_a_test_that_needs_a_device_may_be_skipped_in_ci(tmp_path: Path) -> None:
    source = """
        import pytest

        @pytest.mark.cuda
        def test_a():
            assert False
    """
    assert "1 skipped" in run_pytest(tmp_path, source, ci="true")
