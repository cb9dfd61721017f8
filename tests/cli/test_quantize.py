from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longlens.formats.checkpoint import open_checkpoint
from tests.cli.terminal import FIXTURES, TINY, environment, fault_and_mend, longlens
from tests.convert.checkpoints import big_file

FOLDER = str(FIXTURES / "tiny-glm")
Q8 = str(FIXTURES / "tiny-glm-Q8_0-00001-of-00002.gguf")


def test_a_folder_becomes_a_file_and_its_path_is_printed(tmp_path: Path) -> None:
    target = tmp_path / "tiny.gguf"
    result = longlens("quantize", FOLDER, str(target), "q8_0")
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.decode() == f"{target}\n"
    assert b"bits a weight" in result.stderr
    assert b"M weights/s" in result.stderr
    with open_checkpoint(target) as checkpoint:
        assert checkpoint.metadata["general.file_type"] == 7
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_split_file_is_printed_shard_by_shard_and_opens(tmp_path: Path) -> None:
    result = longlens("quantize", TINY, str(tmp_path / "m.gguf"), "Q4_0", "--split-max-size", "100KiB")
    assert result.returncode == 0, result.stderr.decode()
    paths = result.stdout.decode().split()
    assert paths == sorted(str(path) for path in tmp_path.iterdir())
    assert len(paths) > 1
    assert longlens("inspect", paths[1]).returncode == 0


def test_json_tells_what_was_written(tmp_path: Path) -> None:
    result = longlens("quantize", TINY, str(tmp_path / "m.gguf"), "Q4_K_M", "--json")
    answer = json.loads(result.stdout)
    assert answer["paths"] == [str(tmp_path / "m.gguf")]
    assert answer["bytes"] == (tmp_path / "m.gguf").stat().st_size
    assert answer["type"] == "Q4_K_M"
    assert "token_embd.weight" in answer["kept_wider"]
    assert b"stored wider: 'output.weight'" in result.stderr or b"stored wider: 'token_embd.weight'" in result.stderr


def test_a_quantised_source_is_refused_and_with_the_option_warned_about_by_name(tmp_path: Path) -> None:
    target = str(tmp_path / "m.gguf")
    refused = longlens("quantize", Q8, target, "Q4_0")
    fault, mend = fault_and_mend(refused)
    assert refused.returncode == 2
    assert "quantised already: 'token_embd.weight'" in fault
    assert "--allow-requantize" in mend
    allowed = longlens("quantize", Q8, target, "Q4_0", "--allow-requantize")
    assert allowed.returncode == 0
    assert b"warning: " in allowed.stderr
    assert b"which loses more: 'token_embd.weight'" in allowed.stderr


@pytest.mark.parametrize(
    ("words", "fault", "code"),
    [
        ((TINY, TINY, "F16"), "is the source itself", 2),
        ((TINY, "{}/m.gguf", "Q3_K_S"), "'Q3_K_S' is not a type", 2),
        ((TINY, "{}/m.gguf", "Q8_0", "--split-max-size", "0"), "--split-max-size is 0", 2),
        ((TINY, "{}/m.gguf", "Q8_0", "--split-max-size", "much"), "'much' is not a size", 2),
        (("{}/none.gguf", "{}/m.gguf", "Q8_0"), "no file", 1),
        (("{}/cut.gguf", "{}/m.gguf", "Q8_0"), "cut.gguf", 1),
        ((TINY, "{}/there.gguf", "Q8_0"), "there.gguf is there already", 2),
    ],
)
def test_what_cannot_be_is_a_fault_with_a_mend_and_leaves_nothing(
    tmp_path: Path, words: tuple[str, ...], fault: str, code: int
) -> None:
    (tmp_path / "cut.gguf").write_bytes(Path(TINY).read_bytes()[:100_000])
    (tmp_path / "there.gguf").write_bytes(b"mine")
    result = longlens("quantize", *(word.format(tmp_path) for word in words))
    assert fault in fault_and_mend(result)[0]
    assert result.returncode == code
    assert {path.name for path in tmp_path.iterdir()} == {"cut.gguf", "there.gguf"}
    assert (tmp_path / "there.gguf").read_bytes() == b"mine"


def command(source: Path, target: Path) -> list[str]:
    return [sys.executable, "-m", "longlens", "quantize", str(source), str(target), "Q4_K_M", "-t", "1"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path: Path, number: signal.Signals, code: int) -> None:
    source, target = big_file(tmp_path / "source.gguf", rows=60_000), tmp_path / "m.gguf"
    journal = tmp_path / "m.gguf.progress"
    with subprocess.Popen(
        command(source, target),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A run in the background ignores SIGINT and hands that on to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
            time.sleep(0.005)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (code, b"")
    assert code < 0 or b"the same command goes on where it stopped" in errors
    assert not target.exists()
    again = subprocess.run(command(source, target), env=environment(), capture_output=True, check=False)
    assert again.returncode == 0, again.stderr.decode()
    assert b"an earlier run had finished" in again.stderr
    whole = subprocess.run(
        command(source, tmp_path / "whole.gguf"), env=environment(), capture_output=True, check=False
    )
    assert whole.returncode == 0
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"source.gguf", "m.gguf", "whole.gguf"}


def test_a_terminal_sees_weights_rate_and_time_to_go(tmp_path: Path) -> None:
    source = big_file(tmp_path / "source.gguf", rows=60_000)
    here, there = pty.openpty()
    with subprocess.Popen(
        command(source, tmp_path / "m.gguf"), env=environment(), stdout=subprocess.DEVNULL, stderr=there
    ) as process:
        os.close(there)
        seen = b""
        while True:
            try:
                piece = os.read(here, 65536)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        assert process.wait(timeout=60) == 0
    os.close(here)
    assert b"quantizing" in seen
    assert b"M weights" in seen
    assert b" M/s" in seen
