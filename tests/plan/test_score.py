from __future__ import annotations

import json
import stat
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import FormatError, UsageError
from longlens.machine import Machine
from longlens.plan.planner import Wishes, make_plan
from longlens.plan.profile import profile_path, write_profile
from longlens.plan.score import (
    MEASURES,
    OUTCOMES_FILE,
    Outcome,
    Score,
    Turn,
    append_outcome,
    keep_score,
    read_outcomes,
    score,
)
from longlens.units import GIB
from tests.plan.rates_by_hand import plain_profile
from tests.plan.test_cost import llama

OUTCOME = Outcome("2026-11-24T12:00:00+00:00", "pocket", "cpu", 100, 20, 30, predicted_ttft_s=1.1, measured_ttft_s=1.0)
TURN = Turn(prompt_tokens=300, cached_tokens=200, completion_tokens=16, ttft_s=0.5, decode_s=1.5)
MACHINE = Machine("test", 2, 2, None, (), 64 * GIB, 64 * GIB)
CONFIG = llama()
PLAN = make_plan(CONFIG, "tiny", MACHINE, "cpu", Wishes(context=1024))


def test_outcomes_come_back_in_order_from_a_file_for_this_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    others = [replace(OUTCOME, prompt_tokens=count) for count in range(3)]
    for outcome in others:
        append_outcome(folder, outcome)
    assert read_outcomes(folder) == tuple(others)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / OUTCOMES_FILE).stat().st_mode) == 0o600


def test_a_folder_without_outcomes_has_none(tmp_path: Path) -> None:
    assert read_outcomes(tmp_path) == ()


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_line_cut_short_is_passed_over_and_does_not_swallow_the_next(tmp_path: Path, cut: int) -> None:
    append_outcome(tmp_path, OUTCOME)
    append_outcome(tmp_path, OUTCOME)
    path = tmp_path / OUTCOMES_FILE
    path.write_bytes(path.read_bytes()[:-cut])
    later = replace(OUTCOME, model="later")
    append_outcome(tmp_path, later)
    read = read_outcomes(tmp_path)
    # Without its newline alone a line is still whole.
    assert read == ((OUTCOME, OUTCOME, later) if cut == 1 else (OUTCOME, later))


@given(st.one_of(st.binary(max_size=50), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_lines_that_are_no_outcomes_are_passed_over(line: bytes | str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    with TemporaryDirectory() as folder:
        (Path(folder) / OUTCOMES_FILE).write_bytes(raw.replace(b"\n", b"") + b"\n")
        append_outcome(Path(folder), OUTCOME)
        assert read_outcomes(Path(folder)) == (OUTCOME,)


def test_an_outcome_with_a_number_that_is_none_is_passed_over(tmp_path: Path) -> None:
    document = json.loads(json.dumps(OUTCOME.__dict__))
    lines = [document | {"measured_ttft_s": "fast"}, document | {"prompt_tokens": None}, document]
    (tmp_path / OUTCOMES_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_outcomes(tmp_path) == (OUTCOME,)


def append_many(folder: str, number: int) -> None:
    for count in range(50):
        append_outcome(Path(folder), replace(OUTCOME, model=f"{number}" * 500, prompt_tokens=count))


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=append_many, args=(str(tmp_path), number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(read_outcomes(tmp_path)) == 150


def test_a_folder_that_cannot_be_used_is_a_fault_with_a_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--cache-dir"):
        append_outcome(tmp_path / "file", OUTCOME)
    (tmp_path / OUTCOMES_FILE).mkdir()
    with pytest.raises(FormatError, match="cannot be read"):
        read_outcomes(tmp_path)


def test_the_score_is_the_median_and_the_90th_percentile_of_relative_errors() -> None:
    predicted = [1.0, 1.1, 0.8, 1.5, 2.0]
    outcomes = [replace(OUTCOME, predicted_ttft_s=value, measured_ttft_s=1.0) for value in predicted]
    found = score([*outcomes, replace(OUTCOME, measured_ttft_s=None)], "ttft")
    assert found.num_runs == 5
    assert found.median_error == pytest.approx(0.2)
    assert found.p90_error == pytest.approx(0.8)


@pytest.mark.parametrize("measure", MEASURES)
def test_without_runs_there_is_no_score(measure: str) -> None:
    nothing = replace(OUTCOME, predicted_ttft_s=None)
    assert score([nothing], measure) == Score(None, None, 0)  # type: ignore[arg-type]


def test_a_turn_is_scored_beside_its_prediction(tmp_path: Path) -> None:
    write_profile(profile_path(tmp_path), plain_profile())
    assert keep_score(tmp_path, CONFIG, PLAN, TURN, memory_bytes=(110.0, 100.0)) is None
    (outcome,) = read_outcomes(tmp_path)
    assert (outcome.model, outcome.measured_ttft_s) == ("tiny", 0.5)
    assert outcome.measured_decode_tokens_per_s == pytest.approx(10)
    assert outcome.predicted_ttft_s is not None
    assert 0 < outcome.predicted_ttft_s < 10
    assert score([outcome], "memory").median_error == pytest.approx(0.1)


def test_cached_tokens_are_predicted_to_cost_nothing(tmp_path: Path) -> None:
    write_profile(profile_path(tmp_path), plain_profile())
    for cached in (0, 290):
        keep_score(tmp_path, CONFIG, PLAN, replace(TURN, cached_tokens=cached))
    cold, warm = (outcome.predicted_ttft_s for outcome in read_outcomes(tmp_path))
    assert cold is not None
    assert warm is not None
    assert warm < cold / 2


def test_a_short_answer_says_nothing_about_decode(tmp_path: Path) -> None:
    write_profile(profile_path(tmp_path), plain_profile())
    keep_score(tmp_path, CONFIG, PLAN, replace(TURN, completion_tokens=2, ttft_s=None))
    (outcome,) = read_outcomes(tmp_path)
    assert outcome.measured_decode_tokens_per_s is None
    assert outcome.measured_ttft_s is None


def test_nothing_is_written_without_a_profile_or_without_a_folder(tmp_path: Path) -> None:
    assert keep_score(tmp_path, CONFIG, PLAN, TURN) is None
    assert keep_score(None, CONFIG, PLAN, TURN) is None
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_profile_costs_the_score_and_not_the_answer(tmp_path: Path) -> None:
    profile_path(tmp_path).write_text("{}")
    said = keep_score(tmp_path, CONFIG, PLAN, TURN)
    assert said is not None
    assert said.startswith("this turn is not scored")
    assert read_outcomes(tmp_path) == ()
