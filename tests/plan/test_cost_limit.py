from __future__ import annotations

import pytest

from longlens.plan.cost_limit import LimitRun, limit_decode, limit_prefill
from longlens.plan.hardware import find_hardware
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.profile import profile_of_hardware
from longlens.plan.rates import LimitRates
from tests.plan.rates_by_hand import Placed

GLM = MODEL_PRESETS["glm-5.2"].config
# Shares that were stated with the table: 70 % and 45 % of 1,979 TFLOP/s (fp8), 80 % of 798 (bf16 under load).
H100 = LimitRates(0.70 * 1979e12, 0.45 * 1979e12, 0.80 * 798e12, {"gpu": 3e12, "ram": 1e11, "disk": 1e9})
RUN = LimitRun("gpu", (), 1000.0, 100.0, 4096, 5e10)


@pytest.mark.parametrize(
    ("tokens", "gpu_seconds", "shares"),
    [
        (32_768, 3.1, (61, 3, 36)),
        (131_072, 13.6, (55, 12, 33)),
        (262_144, 30.6, (49, 22, 30)),
        (524_288, 74.6, (40, 36, 24)),
        (1_048_576, 202.0, (29, 53, 18)),
    ],
)
def test_the_table_of_gpu_seconds_for_glm_5_2_on_an_h100_comes_out(
    tokens: int, gpu_seconds: float, shares: tuple[int, int, int]
) -> None:
    parts = limit_prefill(GLM, RUN, H100, 0, tokens)
    total = sum(parts.values())
    assert total == pytest.approx(gpu_seconds, rel=0.03)
    percent = [100 * parts[part] / total for part in ("projections", "indexer", "attention")]
    assert percent == pytest.approx(shares, abs=2)


def test_the_catalogue_s_h100_has_the_rates_of_that_table() -> None:
    rates = profile_of_hardware(find_hardware("h100")).rates
    assert isinstance(rates, LimitRates)
    assert rates.linear_flops == pytest.approx(H100.linear_flops, rel=0.01)
    assert rates.indexer_flops == pytest.approx(H100.indexer_flops, rel=0.01)
    assert rates.attention_flops == pytest.approx(H100.attention_flops, rel=0.01)


def test_weights_elsewhere_come_over_the_link_for_every_chunk() -> None:
    experts = LimitRun("gpu", (Placed("experts", "ram", 10**12),), 1000.0, 100.0, 4096, 5e10)
    parts = limit_prefill(GLM, experts, H100, 0, 3 * 4096)
    assert sum(parts.values()) == pytest.approx(3 * 10**12 / 5e10)
    here = LimitRun("gpu", (Placed("experts", "gpu", 10**9),), 1000.0, 100.0, 4096, 5e10)
    assert limit_prefill(GLM, here, H100, 0, 3 * 4096)["weights"] == 0


def test_a_token_reads_its_share_of_experts_all_keys_and_the_attended_rows() -> None:
    weights = (
        Placed("experts", "ram", 256 * 10**9),
        Placed("attention", "gpu", 3 * 10**9),
        Placed("embedding", "ram", 10**12),
        Placed("scratch", "ram", 10**12),
    )
    run = LimitRun("gpu", weights, 1000.0, 100.0, 4096, 5e10)
    expected = 8e9 / 1e11 + 3e9 / 3e12 + (1000 * 2048 + 100 * 1_000_001) / 3e12
    assert limit_decode(GLM, run, H100, 1_000_000) == pytest.approx(expected)


def test_rows_in_another_tier_are_read_there() -> None:
    rows = (Placed("latents", "ram", 10), Placed("index_keys", "gpu", 10))
    moved = limit_decode(GLM, LimitRun("gpu", rows, 1000.0, 100.0, 4096, 5e10), H100, 10_000)
    assert moved == pytest.approx(1000 * 2048 / 1e11 + 100 * 10_001 / 3e12)


def test_weights_on_disk_are_read_at_the_disk_s_rate() -> None:
    run = LimitRun("gpu", (Placed("head", "disk", 10**9),), 0.0, 0.0, 4096, 5e10)
    assert limit_decode(GLM, run, H100, 0) == pytest.approx(1.0)
    nowhere = LimitRun("ram", (Placed("head", "ram", 10**9),), 0.0, 0.0, 4096, None)
    assert limit_decode(GLM, nowhere, H100, 0) == pytest.approx(0.01)
