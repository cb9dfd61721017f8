"""A comparison counts if the peer reaches its own quiet-machine figure and both computed the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import quiet
from benchmarks.peers.agreement import Agreement
from benchmarks.peers.quiet import QuietFigure, Subject

SUBJECT = Subject("m, 2 cores", "a.gguf", "00ff", "llama.cpp", "pp512")
FIGURE = QuietFigure(SUBJECT, (99.0, 100.0, 101.0), "2026-11-24", {"n_threads": 2})
SAME = Agreement(64, 1.0, 1e-4, 1e-3)


@pytest.mark.parametrize("rate", [90.0, 100.0, 115.0])
def test_a_peer_near_its_own_figure_counts(rate: float) -> None:
    assert quiet.judge(rate, FIGURE, SAME).counts


@pytest.mark.parametrize("rate", [0.5, 89.9, 115.1, 400.0])
def test_a_peer_far_from_its_own_figure_does_not_count(rate: float) -> None:
    verdict = quiet.judge(rate, FIGURE, SAME)
    assert not verdict.counts
    assert f"{rate / 100:.0%}" in verdict.reasons[0]


def test_without_a_quiet_figure_nothing_counts() -> None:
    (reason,) = quiet.judge(100.0, None, SAME).reasons
    assert "--record-quiet" in reason


def test_logits_that_differ_do_not_count_and_every_reason_is_given() -> None:
    assert len(quiet.judge(50.0, FIGURE, Agreement(64, 0.2, 3.0, 9.0)).reasons) == 2


@pytest.mark.parametrize("samples", [(100.0, 100.0), (60.0, 80.0, 100.0, 120.0, 140.0)])
def test_a_figure_of_few_or_scattered_samples_is_refused(samples: tuple[float, ...]) -> None:
    assert quiet.refusal(replace(FIGURE, samples=samples)) is not None
    assert quiet.refusal(FIGURE) is None


@pytest.mark.parametrize("field", ["machine", "model", "model_sha256", "peer", "workload"])
def test_a_figure_about_something_else_is_not_found(field: str) -> None:
    assert quiet.find([FIGURE], SUBJECT) == FIGURE
    assert quiet.find([FIGURE], replace(SUBJECT, **{field: "another"})) is None


def test_a_new_figure_takes_the_place_of_the_old_one_about_the_same() -> None:
    other = replace(FIGURE, subject=replace(SUBJECT, workload="tg32"))
    new = replace(FIGURE, samples=(7.0, 7.0, 7.0))
    assert quiet.with_figure([FIGURE, other], new) == [other, new]


def test_figures_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "quiet.json"
    assert quiet.read_figures(path) == []
    quiet.write_figures(path, [FIGURE])
    assert quiet.read_figures(path) == [FIGURE]
