"""The command line, and the text that is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import compare
from longlens.machine import detect_machine
from tests.house.tree_rules import REPOSITORY

POCKET = REPOSITORY / "src/longlens/pocket/pocket.gguf"


def test_workloads_are_read() -> None:
    options = compare.read_options(["a.gguf", "--peer", "transformers", "--workloads", "pp512,tg32@d4096"])
    assert [workload.name for workload in options.workloads] == ["pp512", "tg32 @ d4096"]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--peer", "llama.cpp"], "--llama-build is missing"),
        (["--peer", "transformers", "--workloads", "pp"], "is no workload"),
        (["--peer", "transformers", "--out", str(POCKET)], "never edited"),
        (["--peer", "vllm"], "invalid choice"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_starts(
    words: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        compare.read_options(["a.gguf", *words])
    assert fault in capsys.readouterr().err


def test_the_text_is_as_long_as_asked_and_begins_alike() -> None:
    long = compare.text_tokens(POCKET, 300)
    assert len(long) == 300
    assert compare.text_tokens(POCKET, 200) == long[:200]
    assert len(set(long)) > 50


def test_a_record_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    options = compare.read_options([str(tmp_path / "a.gguf"), "--peer", "transformers"])
    header = compare.header(options, detect_machine())
    assert str(tmp_path) not in header.command
    assert "a.gguf --peer transformers --workloads pp512,tg32,pp512@d1024,tg32@d1024 --rounds 7" in header.command
