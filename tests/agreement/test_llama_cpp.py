"""Our logits against llama.cpp's on the F32 fixture, with its choices replayed through the step's trace."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from tests.agreement.comparisons import LLAMA_CPP_LENGTHS, LOGIT_BOUND, LlamaCppOutcome, with_llama_cpp
from tests.agreement.replay import Replay

outcome_of = cache(with_llama_cpp)


@pytest.mark.parametrize("length", LLAMA_CPP_LENGTHS)
def test_with_its_choices_replayed_our_logits_are_those_of_llama_cpp(length: int) -> None:
    outcome: LlamaCppOutcome = outcome_of(length)
    assert outcome.replayed <= LOGIT_BOUND


@pytest.mark.parametrize("length", LLAMA_CPP_LENGTHS)
def test_where_we_would_choose_otherwise_the_scores_are_exactly_equal(length: int) -> None:
    outcome: LlamaCppOutcome = outcome_of(length)
    assert outcome.num_other_rows > 0, "else the replay shows nothing"
    assert outcome.widest_gap == 0.0


def test_choosing_freely_the_runs_part_so_replaying_is_needed() -> None:
    outcome: LlamaCppOutcome = outcome_of(64)
    assert outcome.free > LOGIT_BOUND
    assert 0 < outcome.num_far_rows < 64


def test_a_replay_hands_out_what_was_recorded_and_keeps_what_was_overruled() -> None:
    replay = Replay({0: np.array([[0, -1], [0, 1], [1, 2]])}, {1: np.array([[0, 3], [1, 2], [0, 1]])})
    own = torch.tensor([[0, -1], [0, 1], [0, 2]], dtype=torch.int32)
    assert replay.selection(0, 0, own).tolist() == [[0, -1], [0, 1], [1, 2]]
    assert replay.experts(1, torch.tensor([[3, 0], [2, 1], [1, 0]])).tolist() == [[0, 3], [1, 2], [0, 1]]
    assert replay.num_other_rows() == (1, 6)
