"""Logits that say the same agree; a model that is read wrongly does not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peers.agreement import agreement

LOGITS = np.random.default_rng(0).standard_normal((64, 100), dtype=np.float32) * 4


def test_a_shift_of_all_logits_of_a_row_changes_nothing() -> None:
    found = agreement(LOGITS, LOGITS + 100 * np.arange(64, dtype=np.float32)[:, None])
    assert found.top1 == 1.0
    assert found.largest_kl < 1e-5
    assert found.holds


def test_divergence_is_that_of_two_coins() -> None:
    ours, theirs = np.log(np.float32([[0.5, 0.5]])), np.log(np.float32([[0.9, 0.1]]))
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    found = agreement(ours, theirs)
    assert found.mean_kl == pytest.approx(expected, rel=1e-5)
    assert found.num_positions == 1


def test_small_noise_holds_and_other_logits_do_not() -> None:
    noise = np.random.default_rng(1).standard_normal(LOGITS.shape, dtype=np.float32)
    assert agreement(LOGITS, LOGITS + 0.02 * noise).holds
    assert not agreement(LOGITS, noise).holds


def test_one_row_that_is_far_off_shows_as_the_largest() -> None:
    other = LOGITS.copy()
    other[5] = -other[5]
    found = agreement(LOGITS, other)
    assert found.largest_kl > 1
    assert found.top1 == 63 / 64


def test_the_same_likeliest_tokens_with_another_certainty_do_not_hold() -> None:
    found = agreement(LOGITS, LOGITS / 4)
    assert found.top1 == 1.0
    assert not found.holds


def test_likeliest_tokens_that_differ_in_many_rows_do_not_hold() -> None:
    near = np.tile(np.float32([[0.0, 1e-3]]), (20, 1))
    assert not agreement(near, near[:, ::-1]).holds


@pytest.mark.parametrize(
    "other", [LOGITS[:10], LOGITS[:, :10], np.full_like(LOGITS, np.nan), np.full_like(LOGITS, np.inf)]
)
def test_logits_that_cannot_be_compared_are_refused(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match="logits"):
        agreement(LOGITS, other)
