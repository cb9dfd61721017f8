from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig, MoeConfig, RopeConfig
from longlens.plan.cost import QUESTION_TOKENS, Prediction, predict
from longlens.plan.cost_plain import step_work
from longlens.plan.cost_plain_parts import StepShape
from longlens.plan.hardware import find_hardware
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.profile import profile_of_hardware
from longlens.plan.rates import PlainRates
from tests.plan.rates_by_hand import Placed, Run, plain_profile

RUN = Run(chunk_tokens=64, gather_above_tokens=256)
PROFILE = plain_profile()


def glm(num_layers: int = 4, *, topk: int = 128) -> ModelConfig:
    return ModelConfig(
        architecture="glm_moe_dsa",
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=num_layers,
        num_nextn_predict_layers=0,
        rms_norm_eps=1e-5,
        max_position_embeddings=1_000_000,
        tie_word_embeddings=False,
        rope=RopeConfig(1e4, 8, is_interleaved=True),
        attention=MlaConfig(4, 64, 64, 24, 8, 32, 1e-5, 0.2),
        indexer=IndexerConfig(4, 32, topk, True, tuple(layer % 2 == 0 for layer in range(num_layers))),
        moe=MoeConfig(8, 2, 1, 64, 1, 1, True, 2.5, tuple(layer > 0 for layer in range(num_layers))),
    )


def llama(num_layers: int = 4) -> ModelConfig:
    parts = {"architecture": "llama", "attention": GqaConfig(4, 2, 32), "indexer": None, "moe": None}
    return replace(glm(num_layers), **parts)  # type: ignore[arg-type]


def times(prediction: Prediction) -> tuple[float, ...]:
    assert prediction.ttft_disk_s is not None
    return (
        prediction.ttft_cold_s,
        prediction.ttft_memory_s,
        prediction.ttft_disk_s,
        1 / prediction.decode_tokens_per_s,
    )


TOKENS = st.one_of(st.integers(1, 600), st.integers(1, 200_000))


@settings(deadline=None, max_examples=60)
@given(TOKENS, st.one_of(st.just(1), st.integers(1, 3000)), st.sampled_from([glm(), llama()]))
def test_a_longer_prompt_never_takes_less_time(tokens: int, more: int, config: ModelConfig) -> None:
    shorter, longer = (predict(config, RUN, PROFILE, prompt_tokens=count) for count in (tokens, tokens + more))
    cold, _, _, decode = times(shorter)
    cold_longer, _, _, decode_longer = times(longer)
    assert cold_longer >= cold * (1 - 1e-9)
    assert decode_longer >= decode * (1 - 1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 100_000), st.integers(1, 6), st.integers(1, 6), st.sampled_from([glm, llama]))
def test_more_layers_never_take_less_time(tokens: int, layers: int, more: int, model: object) -> None:
    few, many = (predict(model(count), RUN, PROFILE, prompt_tokens=tokens) for count in (layers, layers + more))  # type: ignore[operator]
    assert all(after >= before for before, after in zip(times(few), times(many), strict=True))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 2000), st.integers(1, 500))
def test_the_parts_sum_to_the_cold_time(tokens: int, question: int) -> None:
    found = predict(glm(), RUN, PROFILE, prompt_tokens=tokens, question_tokens=question)
    assert sum(found.parts.values()) == pytest.approx(found.ttft_cold_s)
    assert min(found.parts.values()) >= 0
    assert found.ttft_memory_s <= found.ttft_cold_s * (1 + 1e-9)


def test_few_chunks_are_summed_one_by_one() -> None:
    config = glm()
    rates = PROFILE.rates
    assert isinstance(rates, PlainRates)
    total = 0.0
    for first, end in ((0, 64), (64, 128), (128, 192)):
        shape = StepShape(end - first, end, "f32", "f32")
        work = step_work(config, shape, gather_above_tokens=256, wants_logits=end == 192)
        total += sum(part.seconds(rates) for part in work.values())
    assert predict(config, RUN, PROFILE, prompt_tokens=192).ttft_cold_s == pytest.approx(total, rel=1e-6)


def test_many_chunks_on_straight_lines_are_what_every_chunk_by_itself_would_be() -> None:
    config = llama()
    rates = PROFILE.rates
    assert isinstance(rates, PlainRates)
    total = 0.0
    for end in range(64, 64 * 200 + 1, 64):
        shape = StepShape(64, end, "f32", "f32")
        work = step_work(config, shape, gather_above_tokens=None, wants_logits=end == 64 * 200)
        total += sum(part.seconds(rates) for part in work.values())
    run = replace(RUN, gather_above_tokens=None)
    assert predict(config, run, PROFILE, prompt_tokens=64 * 200).ttft_cold_s == pytest.approx(total, rel=0.01)


def test_from_memory_only_the_question_is_read_and_from_disk_the_rows_too() -> None:
    found = predict(glm(), RUN, PROFILE, prompt_tokens=10_000)
    assert found.ttft_memory_s < found.ttft_cold_s / 10
    assert found.ttft_disk_s == pytest.approx(found.ttft_memory_s + (10_000 - QUESTION_TOKENS) * 1000 / 1e9)
    whole = predict(glm(), RUN, PROFILE, prompt_tokens=100)
    assert whole.ttft_memory_s == pytest.approx(whole.ttft_cold_s)
    assert predict(glm(), RUN, replace(PROFILE, disk_read_bytes_per_s=None), prompt_tokens=9).ttft_disk_s is None


def test_decode_is_predicted_at_the_depth_that_is_asked_for() -> None:
    near, far = (predict(llama(), RUN, PROFILE, prompt_tokens=500, depth=depth) for depth in (0, 50_000))
    assert near.decode_tokens_per_s > far.decode_tokens_per_s
    assert near.ttft_cold_s == far.ttft_cold_s
    same = predict(llama(), RUN, PROFILE, prompt_tokens=50_000)
    assert same.decode_tokens_per_s == pytest.approx(far.decode_tokens_per_s)


@pytest.mark.parametrize("wrong", [{"prompt_tokens": 0}, {"prompt_tokens": 1, "depth": -1}])
def test_a_prompt_without_tokens_and_a_negative_depth_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        predict(glm(), RUN, PROFILE, **wrong)  # type: ignore[arg-type]


def test_limits_of_the_catalogue_are_predictions_of_the_same_shape() -> None:
    run = Run(
        device="cuda",
        compute_element="bf16",
        chunk_tokens=4096,
        kv_bytes_per_token=95_232,
        kv_bytes=95_232 * 2**20,
        index_bytes=5376 * 2**20,
        components=(Placed("experts", "gpu", 725 * 10**9), Placed("attention", "gpu", 13 * 10**9)),
    )
    hardware = find_hardware("h200")
    found = predict(MODEL_PRESETS["glm-5.2"].config, run, profile_of_hardware(hardware), prompt_tokens=2**20)
    gpu = hardware.tier("gpu")
    assert gpu is not None
    assert gpu.read_bytes_per_s is not None
    read = 725e9 * 8 / 256 + 13e9 + 5376 * (2**20 + 1) + (95_232 - 5376) * 2048
    assert 1 / found.decode_tokens_per_s == pytest.approx(read / (0.75 * gpu.read_bytes_per_s), rel=1e-6)
    assert found.ttft_cold_s > 100 > found.ttft_memory_s


def test_a_million_tokens_of_the_largest_preset_are_predicted_in_a_blink() -> None:
    run = Run(chunk_tokens=64, gather_above_tokens=4096)
    started = time.process_time()
    predict(MODEL_PRESETS["glm-5.2"].config, run, PROFILE, prompt_tokens=1_000_000)
    assert time.process_time() - started < 0.15
