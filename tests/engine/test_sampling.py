import math

import numpy as np
import pytest
import torch

from longlens.engine.sampling import Sampler, SamplingParams
from longlens.errors import LogitsError, UsageError


def make_sampler(vocab_size=4, *, rules=(), prompt_ids=(), **params):
    return Sampler(SamplingParams(**params), rules, prompt_ids, vocab_size)


def draw(logits, count, **params):
    """Sample from the same logits again and again, telling the sampler what it chose."""
    logits_V = torch.tensor(logits)
    sampler = make_sampler(len(logits), **params)
    output_ids = []
    for _ in range(count):
        output_ids.append(sampler.sample(logits_V, output_ids))
    return output_ids


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("frequency_penalty", math.nan),
        ("presence_penalty", math.inf),
        ("logit_bias", {3: math.nan}),
        ("logit_bias", {3: math.inf}),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name) as caught:
        SamplingParams(**{name: value})

    assert caught.value.mend.startswith("it must be")


@pytest.mark.parametrize(
    "params",
    [
        {"max_tokens": 0},
        {"top_p": 1.0, "min_p": 1.0, "top_k": 10**9},
        {"seed": 2**64 - 1, "temperature": 1e-300},
        {"logit_bias": {0: -math.inf}},
    ],
)
def test_values_at_the_edge_are_accepted(params):
    assert make_sampler(**params).params == SamplingParams(**params)


@pytest.mark.parametrize("params", [{"logit_bias": {4: 1.0}}, {"stop_ids": {-1}}])
def test_token_ids_outside_the_vocabulary_are_refused_by_name(params):
    with pytest.raises(UsageError, match=f"a token id in {next(iter(params))}"):
        make_sampler(vocab_size=4, **params)


def test_params_do_not_change_when_the_callers_bias_does():
    bias = {1: 5.0}
    params = SamplingParams(logit_bias=bias)
    bias[2] = 9.0

    assert dict(params.logit_bias) == {1: 5.0}
    with pytest.raises(TypeError):
        params.logit_bias[2] = 9.0


def test_temperature_zero_takes_the_largest_and_the_lowest_id_of_a_tie():
    assert draw([1.0, 3.0, 3.0, 2.0], 1) == [1]
    assert draw([0.0] * 5, 1) == [0]


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others():
    logits = [0.0] * 50

    first = draw(logits, 40, temperature=1.0, seed=11)

    assert draw(logits, 40, temperature=1.0, seed=11) == first
    assert draw(logits, 40, temperature=1.0, seed=12) != first
    assert draw(logits, 40, temperature=1.0) != draw(logits, 40, temperature=1.0)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"temperature": 1.0}, [0.4, 0.3, 0.15, 0.1, 0.05]),
        ({"temperature": 1.0, "top_k": 3}, [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.6}, [0.4 / 0.7, 0.3 / 0.7, 0, 0, 0]),
        ({"temperature": 1.0, "min_p": 0.2}, [0.4 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.1 / 0.95, 0]),
        ({"temperature": 0.5}, [0.16 / 0.285, 0.09 / 0.285, 0.0225 / 0.285, 0.01 / 0.285, 0.0025 / 0.285]),
    ],
    ids=["plain", "top-k", "top-p", "min-p", "temperature"],
)
def test_draws_follow_the_distribution(params, expected):
    num_draws = 4000
    logits = np.log([0.4, 0.3, 0.15, 0.1, 0.05]).tolist()

    counts = np.bincount(draw(logits, num_draws, seed=2024, **params), minlength=5)

    expected = np.array(expected) * num_draws
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    chi_square = ((counts[possible] - expected[possible]) ** 2 / expected[possible]).sum()
    critical = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47}[possible.sum() - 1]  # one in a thousand
    assert chi_square < critical


def penalised(logits, prompt_ids, output_ids, repetition, frequency, presence):
    """The formulas one token at a time, as transformers (repetition) and OpenAI (the others) state them."""
    result = list(logits)
    for token_id in range(len(logits)):
        if token_id in prompt_ids or token_id in output_ids:
            value = result[token_id]
            result[token_id] = value / repetition if value > 0 else value * repetition
        count = output_ids.count(token_id)
        result[token_id] -= frequency * count + presence * (count > 0)
    return result


@pytest.mark.parametrize("repetition", [1.0, 1.3, 0.8])
@pytest.mark.parametrize(("frequency", "presence"), [(0.0, 0.0), (0.7, 0.0), (0.0, 0.9), (-0.4, 0.3)])
def test_penalties_follow_their_formulas(repetition, frequency, presence):
    generator = np.random.default_rng(5)
    prompt_ids = [0, 2, 2, 5]
    sampler = make_sampler(
        8,
        prompt_ids=prompt_ids,
        repetition_penalty=repetition,
        frequency_penalty=frequency,
        presence_penalty=presence,
    )
    output_ids = []
    for _ in range(30):
        logits = generator.normal(size=8).tolist()
        expected = int(np.argmax(penalised(logits, prompt_ids, output_ids, repetition, frequency, presence)))
        token_id = sampler.sample(torch.tensor(logits), output_ids)
        assert token_id == expected
        output_ids.append(token_id)


def test_repetition_counts_the_prompt_and_the_other_penalties_do_not():
    assert draw([2.0, 1.9], 1, prompt_ids=[0], repetition_penalty=1.5) == [1]
    assert draw([2.0, 1.9], 1, prompt_ids=[0], presence_penalty=1.5, frequency_penalty=1.5) == [0]


def test_bias_is_added_after_the_penalties():
    # Scaled too, the bias of token 0 would be 3.0 / 2 and token 1 would win.
    assert draw([2.0, 3.5], 1, prompt_ids=[0], repetition_penalty=2.0, logit_bias={0: 3.0}) == [0]


def test_a_bias_of_minus_infinity_forbids_a_token():
    tokens = draw([9.0, 1.0, 1.0], 50, temperature=1.0, seed=1, logit_bias={0: -math.inf})

    assert set(tokens) == {1, 2}


class ForbidToken:
    def __init__(self, token_id, *, needs_host=False):
        self.token_id = token_id
        self.needs_host = needs_host
        self.seen = []

    def apply(self, output_ids, logits_V):
        self.seen.append((list(output_ids), logits_V.device.type))
        logits_V[self.token_id] = -torch.inf
        return logits_V


def test_rules_run_in_order_and_see_the_tokens_sampled_so_far():
    rules = [ForbidToken(3), ForbidToken(2, needs_host=True)]

    assert draw([1.0, 2.0, 3.0, 4.0], 2, rules=rules) == [1, 1]
    assert [output_ids for output_ids, _ in rules[0].seen] == [[], [1]]
    assert rules[1].seen[0][1] == "cpu"


def test_a_rule_acts_before_the_filters():
    # After top-k the forbidden token would have been the only candidate.
    assert draw([5.0, 1.0], 1, temperature=1.0, top_k=1, rules=[ForbidToken(0)]) == [1]


def test_a_rule_may_return_a_row_of_its_own():
    class Only:
        needs_host = False

        def apply(self, output_ids, logits_V):
            return torch.where(torch.arange(3) == 2, logits_V, -torch.inf)

    assert draw([5.0, 1.0, 0.0], 1, rules=[Only()]) == [2]


def test_the_models_row_is_left_as_it_is():
    logits_V = torch.tensor([1.0, 2.0, 3.0])
    sampler = make_sampler(
        3, rules=[ForbidToken(2)], prompt_ids=[0], repetition_penalty=2.0, logit_bias={1: 1.0}, temperature=1.0, seed=1
    )

    sampler.sample(logits_V, [])

    assert logits_V.tolist() == [1, 2, 3]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("logits", "what"),
    [
        ([math.nan] * 3, "NaN"),
        ([1.0, math.nan, 2.0], "NaN"),
        ([1.0, math.inf, 2.0], r"\+inf"),
        ([1.0, -math.inf, 2.0], "-inf"),
        ([-math.inf] * 3, "nothing but -inf"),
    ],
)
def test_damaged_logits_are_an_error_and_never_token_zero(temperature, logits, what):
    with pytest.raises(LogitsError, match=f"the model's logits hold {what}"):
        draw(logits, 1, temperature=temperature)


def test_rules_that_forbid_everything_are_an_error_with_its_mend():
    with pytest.raises(LogitsError, match="after rules and bias hold nothing but -inf") as caught:
        draw([1.0, 2.0], 1, rules=[ForbidToken(0), ForbidToken(1)])

    assert "allow at least one token" in caught.value.mend
