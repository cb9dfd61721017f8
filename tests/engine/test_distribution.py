import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.engine.distribution import distribution, pick_place


def reference(logits, *, temperature, top_k, top_p, min_p):
    """Sorts the whole vocabulary and filters it step by step: token id -> probability."""
    order = np.lexsort((np.arange(len(logits)), -logits))
    scaled = logits[order].astype(np.float64) / temperature
    kept = np.ones(len(order), bool)
    if top_k:
        kept[top_k:] = False
    weights = np.where(kept, np.exp(scaled - scaled[0]), 0.0)
    probabilities = weights / weights.sum()
    if top_p < 1:
        before = np.cumsum(probabilities) - probabilities
        kept &= before < top_p - 1e-15
        probabilities = np.where(kept, probabilities, 0.0) / probabilities[kept].sum()
    kept = probabilities >= min_p * probabilities[0]
    probabilities = np.where(kept, probabilities, 0.0) / probabilities[kept].sum()
    return {int(i): float(p) for i, p in zip(order, probabilities, strict=True) if p > 0}


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocab_size=st.sampled_from([1, 2, 7, 300, 1500]),
    num_levels=st.sampled_from([1, 3, 1000]),
    temperature=st.sampled_from([0.1, 0.7, 1.0, 5.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 299, 300, 5000]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_it_equals_a_plain_sort_of_the_vocabulary(seed, vocab_size, num_levels, temperature, top_k, top_p, min_p):
    # Few levels make plateaus, where only the order by id decides who stays.
    levels = np.random.default_rng(seed).integers(0, num_levels, vocab_size)
    logits = (levels * (8 / num_levels)).astype(np.float32)
    filters = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}

    ids_X, probabilities_X = distribution(torch.from_numpy(logits), **filters)

    ours = dict(zip(ids_X.tolist(), probabilities_X.tolist(), strict=True))
    theirs = reference(logits, **filters)
    if top_p < 1 and set(ours) != set(theirs):
        # The sum may reach top_p exactly, in one rounding and not in the other: one token more or less, the last one.
        assert len(set(ours) ^ set(theirs)) == 1
    else:
        assert ours == pytest.approx(theirs, rel=1e-9)


def test_ranked_candidates_come_by_probability_then_by_id():
    logits_V = torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])

    ids_X, _ = distribution(logits_V, temperature=1.0, top_k=4)

    assert ids_X.tolist() == [1, 3, 2, 4]


def test_a_plateau_larger_than_top_k_keeps_the_lowest_ids():
    ids_X, probabilities_X = distribution(torch.zeros(1000), temperature=1.0, top_k=3)

    assert ids_X.tolist() == [0, 1, 2]
    assert probabilities_X.tolist() == [1 / 3] * 3


def test_top_p_keeps_the_token_that_crosses_it():
    logits_V = torch.tensor([0.5, 0.3, 0.2]).log()

    assert distribution(logits_V, temperature=1.0, top_p=0.4)[0].tolist() == [0]
    assert distribution(logits_V, temperature=1.0, top_p=0.6)[0].tolist() == [0, 1]
    assert distribution(logits_V, temperature=1.0, top_p=0.9)[0].tolist() == [0, 1, 2]


def test_top_p_sees_what_top_k_left():
    logits_V = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()

    # Of the two that stay, the first has 4/7 > 0.5.
    assert distribution(logits_V, temperature=1.0, top_k=2, top_p=0.5)[0].tolist() == [0]
    assert distribution(logits_V, temperature=1.0, top_p=0.5)[0].tolist() == [0, 1]


def test_min_p_is_a_fraction_of_the_most_probable_after_temperature():
    logits_V = torch.tensor([0.5, 0.3, 0.2]).log()

    assert distribution(logits_V, temperature=1.0, min_p=0.5)[0].tolist() == [0, 1]
    assert distribution(logits_V, temperature=0.5, min_p=0.5)[0].tolist() == [0]
    assert distribution(logits_V, temperature=1.0, min_p=1.0)[0].tolist() == [0]


def test_forbidden_tokens_are_never_candidates():
    logits_V = torch.tensor([-torch.inf, 1.0, -torch.inf, 1.0])

    ids_X, probabilities_X = distribution(logits_V, temperature=1.0, top_k=4)

    assert ids_X.tolist() == [1, 3]
    assert probabilities_X.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("temperature", [1e-307, 1e-10])
def test_a_tiny_temperature_is_greedy_and_does_not_overflow(temperature):
    ids_X, probabilities_X = distribution(torch.tensor([3.0, 90.0, -50.0]), temperature=temperature)

    assert ids_X.tolist() == [1]
    assert probabilities_X.tolist() == [1.0]


@pytest.mark.parametrize(("uniform", "place"), [(0.0, 0), (0.2499, 0), (0.25, 1), (0.7499, 1), (0.75, 2), (1.0, 2)])
def test_a_uniform_number_picks_by_cumulative_probability(uniform, place):
    assert pick_place(torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64), uniform) == place
