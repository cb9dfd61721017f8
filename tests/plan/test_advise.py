from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.plan.advise import Advice, LocalRun, Needs, Option, OptionKind, advise
from longlens.plan.hardware import HARDWARE
from longlens.plan.launch import Launch, plan_launch
from longlens.plan.presets import MODEL_PRESETS

NEEDS = Needs(is_private=True, context=131_072)
BIG = LocalRun(
    model="GLM-5.2",
    machine="h200-x8",
    hardware="a large machine",
    context=131_072,
    places="470.0 GiB in RAM",
    moves=("experts of layers 3-77 in RAM: 24 GiB of GPU memory are too little",),
    ttft_cold_s=600.0,
    ttft_memory_s=3.0,
    decode_tokens_per_s=8.0,
    command="longlens ask -m glm-5.2",
)
SMALL = replace(
    BIG,
    model="pocket",
    places="1.0 GiB in RAM",
    moves=(),
    ttft_cold_s=60.0,
    decode_tokens_per_s=40.0,
    command="longlens ask -m pocket",
)
TOO_LARGE = LocalRun("GLM-5.2", "h200-x8", "a machine", 131_072, fault="it needs 900 GiB; --context 32768 fits")
LAUNCH: Launch = plan_launch(MODEL_PRESETS["glm-5.2"], HARDWARE["h200-x8"], 131_072, 1)
NO_LAUNCH = "no device multiplies fp8"


def option(advice: Advice, kind: OptionKind) -> Option:
    return next(found for found in advice.options if found.kind == kind)


def test_a_model_that_fits_and_misses_nothing_runs_here() -> None:
    advice = advise(NEEDS, BIG, [SMALL], NO_LAUNCH)
    assert advice.recommended.kind == "local"
    assert advice.recommended.weight == 0
    assert advice.recommended.commands == ("longlens ask -m glm-5.2",)
    reasons = " | ".join(advice.recommended.reasons)
    assert "it fits: 470.0 GiB in RAM | experts of layers 3-77 in RAM" in reasons
    assert "after 10.0 min, 3.0 s when its beginning is in memory" in reasons
    assert "8.0 tokens a second" in reasons


def test_private_code_that_fits_nowhere_large_goes_to_a_smaller_model() -> None:
    advice = advise(NEEDS, TOO_LARGE, [SMALL], NO_LAUNCH)
    assert advice.recommended.kind == "smaller"
    assert advice.recommended.commands == ("longlens ask -m pocket",)
    assert not option(advice, "api").is_possible
    assert "must not leave" in option(advice, "api").reasons[0]
    assert not option(advice, "local").is_possible


def test_code_that_may_leave_goes_to_the_api_when_it_does_not_fit() -> None:
    advice = advise(replace(NEEDS, is_private=False), TOO_LARGE, [SMALL], NO_LAUNCH)
    assert advice.recommended.kind == "api"
    assert "$0.18, $0.03 when it is cached" in advice.recommended.reasons[0]
    assert "curl https://api.z.ai" in advice.recommended.commands[0]


def test_private_code_of_many_users_goes_to_several_machines() -> None:
    advice = advise(replace(NEEDS, users=8, num_machines=1), TOO_LARGE, [SMALL], LAUNCH)
    assert advice.recommended.kind == "several machines"
    assert "tensor parallel 8, pipeline parallel 1" in advice.recommended.reasons[0]
    assert advice.recommended.commands[0].startswith("vllm serve zai-org/GLM-5.2-FP8")
    assert "sglang" in advice.recommended.commands[-1]


def test_machines_that_are_missing_weigh() -> None:
    two = plan_launch(MODEL_PRESETS["glm-5.2"], HARDWARE["h200-x8"], 1_048_576, 1)
    has, lacks = (advise(replace(NEEDS, num_machines=n), TOO_LARGE, [SMALL], two) for n in (2, 1))
    assert option(has, "several machines").weight == 0
    assert option(lacks, "several machines").weight > 0
    assert any(
        "machines of the kind h200-x8: 2 are needed, 1 are there" in r
        for r in option(lacks, "several machines").reasons
    )


def test_machines_of_another_kind_than_ones_own_weigh_more_than_a_smaller_model() -> None:
    laptop = replace(TOO_LARGE, machine="laptop-16")
    advice = advise(replace(NEEDS, num_machines=3), laptop, [SMALL], LAUNCH)
    assert advice.recommended.kind == "smaller"
    assert any("1 are needed, 0 are there" in reason for reason in option(advice, "several machines").reasons)
    many = advise(replace(NEEDS, users=8), laptop, [SMALL], LAUNCH)
    assert many.recommended.kind == "several machines", "eight people do not share one process"


def test_a_plan_that_cannot_run_yet_is_not_recommended_over_one_that_can() -> None:
    unbuilt = replace(BIG, not_built=("packed weights in GPU memory",))
    advice = advise(NEEDS, unbuilt, [SMALL], NO_LAUNCH)
    assert advice.recommended.kind == "smaller"
    assert any("cannot run this plan yet: packed weights" in r for r in option(advice, "local").reasons)


def test_waiting_longer_than_asked_weighs_and_names_both_times() -> None:
    advice = advise(replace(NEEDS, most_ttft_s=60.0), BIG, [replace(SMALL, ttft_cold_s=59.0)], NO_LAUNCH)
    local = option(advice, "local")
    assert local.weight > 0
    assert any("after 10.0 min" in reason and "60.0 s are asked" in reason for reason in local.reasons)
    assert advise(replace(NEEDS, most_ttft_s=600.0), BIG, [SMALL], NO_LAUNCH).recommended.weight == 0


def test_users_share_the_speed() -> None:
    advice = advise(replace(NEEDS, users=2), BIG, [SMALL], NO_LAUNCH)
    assert any("8.0 tokens a second, 4.0 a user: slower than reading (5)" in r for r in option(advice, "local").reasons)


def test_many_users_of_a_smaller_model_wait_for_each_other() -> None:
    four, five = (option(advise(replace(NEEDS, users=n), BIG, [SMALL], NO_LAUNCH), "smaller") for n in (4, 5))
    assert five.weight > four.weight
    assert "5 users would wait for each other" in five.reasons


def test_a_speed_that_nothing_predicts_is_said_to_be_unknown() -> None:
    unknown = replace(BIG, ttft_cold_s=None, decode_tokens_per_s=None)
    assert any("its speed is not known" in r for r in option(advise(NEEDS, unknown, [], NO_LAUNCH), "local").reasons)


def test_a_budget_below_one_prompt_weighs() -> None:
    poor, rich = (
        option(advise(replace(NEEDS, is_private=False, budget_dollars=d), BIG, [], NO_LAUNCH), "api")
        for d in (0.1, 100)
    )
    assert poor.weight > rich.weight == 0
    assert any("$100 a month pay for 544 such prompts" in reason for reason in rich.reasons)


def test_the_first_smaller_model_that_reads_enough_is_taken() -> None:
    short = replace(SMALL, model="smollm2-135m", context=8192)
    advice = advise(NEEDS, TOO_LARGE, [short, SMALL], NO_LAUNCH)
    assert option(advice, "smaller").title.startswith("pocket")
    only = option(advise(NEEDS, TOO_LARGE, [short], NO_LAUNCH), "smaller")
    assert not only.is_possible
    assert "reads 8K at most, 128K are asked" in only.reasons[0]


def test_what_does_not_fit_names_the_nearest_that_does() -> None:
    local = option(advise(NEEDS, TOO_LARGE, [], NO_LAUNCH), "local")
    assert local.reasons == ("it does not fit: it needs 900 GiB; --context 32768 fits",)
    assert local.commands == ()


def test_nothing_possible_still_answers_with_every_reason() -> None:
    advice = advise(NEEDS, TOO_LARGE, [], NO_LAUNCH)
    assert not advice.recommended.is_possible
    assert all(found.reasons for found in advice.options)


def test_advice_survives_json() -> None:
    document = json.loads(json.dumps(advise(NEEDS, BIG, [SMALL], LAUNCH).as_json()))
    assert document["recommended"] == "local"
    assert {found["kind"] for found in document["options"]} == {"local", "api", "smaller", "several machines"}


@given(
    st.booleans(),
    st.sampled_from([None, 1.0, 1000.0]),
    st.sampled_from([None, 0.0, 50.0]),
    st.integers(1, 20),
    st.sampled_from([BIG, TOO_LARGE, replace(BIG, not_built=("this",))]),
)
def test_options_are_ranked_possible_first_then_by_weight(
    is_private: bool, ttft: float | None, budget: float | None, users: int, big: LocalRun
) -> None:
    needs = Needs(is_private, 131_072, ttft, budget, users)
    advice = advise(needs, big, [SMALL], LAUNCH)
    ranks = [(not found.is_possible, found.weight) for found in advice.options]
    assert ranks == sorted(ranks)
    assert len(advice.options) == 4
    if is_private:
        assert not option(advice, "api").is_possible


@pytest.mark.parametrize("users", [1, 3, 9])
def test_more_users_never_lower_a_weight(users: int) -> None:
    one, many = (advise(replace(NEEDS, users=n), BIG, [SMALL], LAUNCH) for n in (users, users + 1))
    for found in one.options:
        assert option(many, found.kind).weight >= found.weight
