from __future__ import annotations

from pathlib import Path

import pytest

from longlens.plan.profile import profile_path, write_profile
from longlens.plan.score import read_outcomes
from tests.cli.terminal import TINY, longlens
from tests.plan.rates_by_hand import plain_profile

RUN = ("run", "-m", TINY, "-p", "def main", "-n", "12", "--temp", "0", "--raw", "-q")


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A cache folder with a profile of the machine."""
    write_profile(profile_path(tmp_path, "cpu"), plain_profile())
    return tmp_path


def test_every_turn_is_kept_beside_its_prediction(measured: Path) -> None:
    for _ in range(2):
        assert longlens(*RUN, "--cache-dir", str(measured)).returncode == 0
    first, second = read_outcomes(measured)
    assert first.model == "tiny-glm-F32.gguf"
    assert second.completion_tokens == 12
    assert all(value is not None and value > 0 for value in (*first.pair("ttft"), *first.pair("decode")))


def test_without_a_profile_and_without_a_store_nothing_is_kept(tmp_path: Path, measured: Path) -> None:
    empty = tmp_path / "empty"
    assert longlens(*RUN, "--cache-dir", str(empty)).returncode == 0
    assert not empty.exists()
    assert longlens(*RUN, "--cache-dir", str(measured), "--no-store").returncode == 0
    assert read_outcomes(measured) == ()


def test_a_profile_that_cannot_be_read_costs_no_answer(measured: Path) -> None:
    profile_path(measured, "cpu").write_text("{")
    result = longlens(*RUN, "--cache-dir", str(measured))
    assert result.returncode == 0
    assert result.stdout
    assert b"this turn is not scored: the machine profile" in result.stderr


def test_a_chat_keeps_every_answer(measured: Path) -> None:
    words = ("chat", "-m", TINY, "-n", "10", "--temp", "0", "-q", "--cache-dir", str(measured))
    assert longlens(*words, stdin=b"hello\n/regen\n/exit\n").returncode == 0
    assert len(read_outcomes(measured)) == 2
