from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.plan.compute_limit import compute_limit_seconds, highest_rate
from longlens.plan.flops import prefill_flops
from longlens.plan.hardware import HARDWARE
from longlens.plan.presets import MODEL_PRESETS

GLM = MODEL_PRESETS["glm-5.2"].config


def test_the_limit_is_the_operations_over_the_highest_published_rate() -> None:
    eight = HARDWARE["h200-x8"]
    assert eight.peaks is not None
    operations = prefill_flops(GLM, 131_072, form="expanded").total
    assert operations < prefill_flops(GLM, 131_072).total, "the cheaper form counts"
    expected = operations / (8 * highest_rate(eight.peaks))
    assert compute_limit_seconds(GLM, eight, 131_072) == pytest.approx(expected)


def test_eight_bit_rates_count_where_they_are_higher() -> None:
    peaks = HARDWARE["h200"].peaks
    assert peaks is not None
    assert highest_rate(peaks) > peaks.bf16_flops
    assert highest_rate(replace(peaks, fp8_flops=None, int8_ops=None)) == peaks.bf16_flops


def test_a_machine_without_peaks_has_no_limit() -> None:
    assert compute_limit_seconds(GLM, replace(HARDWARE["h200"], peaks=None), 1000) is None


def test_a_processor_counts_as_one_device() -> None:
    laptop = replace(HARDWARE["laptop-16"], num_devices=0)
    assert laptop.peaks is not None
    found = compute_limit_seconds(GLM, laptop, 1000)
    assert found == pytest.approx(prefill_flops(GLM, 1000, form="expanded").total / highest_rate(laptop.peaks))


@given(st.integers(0, 2**20), st.integers(0, 2**20))
def test_a_longer_prompt_never_has_a_lower_limit(tokens: int, more: int) -> None:
    near, far = (compute_limit_seconds(GLM, HARDWARE["rtx-4090"], count) for count in (tokens, tokens + more))
    assert near is not None
    assert far is not None
    assert near <= far
