"""The counted operations are those that the model dispatches: FLOPs of products exactly, calls within a tenth."""

from __future__ import annotations

import pytest
import torch

from longlens.kernels import reference
from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig, MoeConfig, RopeConfig
from longlens.plan import cost_plain_parts
from longlens.plan.cost_plain import num_distinct_experts, step_work
from longlens.plan.cost_plain_parts import PlainElement, StepShape
from tests.plan.dispatched import random_model, watch_steps

MOE = MoeConfig(4, 2, 1, 24, 1, 1, True, 2.5, (False, True, True, True))
GLM = ModelConfig(
    architecture="glm_moe_dsa",
    vocab_size=300,
    hidden_size=64,
    intermediate_size=80,
    num_hidden_layers=4,
    num_nextn_predict_layers=0,
    rms_norm_eps=1e-5,
    max_position_embeddings=8192,
    tie_word_embeddings=False,
    rope=RopeConfig(1e4, 8, is_interleaved=True),
    attention=MlaConfig(3, 32, 48, 12, 8, 20, 1e-5, 0.2),
    indexer=IndexerConfig(2, 16, 32, is_rope_interleaved=True, is_full=(True, True, False, True)),
    moe=MOE,
)
LLAMA = ModelConfig(
    architecture="llama",
    vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_nextn_predict_layers=0,
    rms_norm_eps=1e-5,
    max_position_embeddings=8192,
    tie_word_embeddings=True,
    rope=RopeConfig(1e4, 16, is_interleaved=False),
    attention=GqaConfig(4, 2, 16),
)
# Tokens of each step; the last one is compared: all visible, a mask in both forms, gathered, many tiles, decode.
STEPS = {
    "dense prefill": (24,),
    "dense decode": (20, 1),
    "masked prefill": (24, 32),
    "masked decode": (50, 1),
    "gathered prefill": (64, 80),
    "gathered prefill of many tiles": (300, 500),
    "gathered decode": (200, 1),
    "gathered decode beyond a tile of keys": (4200, 1),
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize(
    ("config", "element", "cache_element"),
    [(GLM, "f32", "f32"), (GLM, "bf16", "bf16"), (GLM, "f32", "f16"), (LLAMA, "f32", "f32"), (LLAMA, "bf16", "bf16")],
    ids=["glm f32", "glm bf16", "glm f16 rows", "llama f32", "llama bf16"],
)
def test_what_is_counted_is_what_the_model_dispatches(
    config: ModelConfig, element: PlainElement, cache_element: PlainElement, steps: tuple[int, ...]
) -> None:
    dtype = torch.float32 if element == "f32" else torch.bfloat16
    seen = watch_steps(random_model(config, dtype, cache_element), steps)
    shape = StepShape(steps[-1], sum(steps), element, cache_element)
    counted = step_work(config, shape, gather_above_tokens=None, wants_logits=True).values()
    # The choice of a token (nine calls) is counted with the head and not part of a step.
    calls = sum(work.num_calls + work.num_views for work in counted) - 9
    assert sum(work.product_flops for work in counted) == pytest.approx(seen.product_flops, rel=1e-9)
    assert calls == pytest.approx(seen.num_operations, rel=0.1)


def test_scratch_and_key_tile_are_those_of_the_kernels() -> None:
    assert cost_plain_parts.SCRATCH_BYTES == reference.SCRATCH_BYTES
    assert cost_plain_parts.KEY_TILE == reference._KEY_TILE


def test_the_gather_threshold_of_the_plan_is_obeyed() -> None:
    shape = StepShape(1, 100, "f32", "f32")
    gathered = step_work(GLM, shape, gather_above_tokens=99, wants_logits=False)["attention"]
    masked = step_work(GLM, shape, gather_above_tokens=100, wants_logits=False)["attention"]
    assert any(name.endswith("rows") for name, _ in gathered.sweeps)
    assert not any(name.endswith("rows") for name, _ in masked.sweeps)


def test_distinct_experts_grow_from_the_chosen_ones_to_all() -> None:
    assert num_distinct_experts(MOE, 1) == pytest.approx(2)
    assert num_distinct_experts(MOE, 2) == pytest.approx(3)
    assert num_distinct_experts(MOE, 1000) == pytest.approx(4)


def test_groups_of_experts_cost_calls_and_no_products() -> None:
    grouped = MoeConfig(4, 2, 1, 24, 2, 1, True, 2.5, (False, True, True, True))
    shape = StepShape(4, 4, "f32", "f32")
    plain, more = (
        step_work(config, shape, gather_above_tokens=None, wants_logits=False)["experts"]
        for config in (GLM, ModelConfig(**{**GLM.__dict__, "moe": grouped}))
    )
    assert more.num_calls > plain.num_calls
    assert more.product_flops == plain.product_flops
