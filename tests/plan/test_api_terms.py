from __future__ import annotations

import pytest

from longlens.plan.api_terms import API_TERMS, answer_seconds, prompt_dollars


def test_a_million_tokens_cost_the_published_price() -> None:
    assert prompt_dollars(1_000_000, cached=0.0) == pytest.approx(1.40)
    assert prompt_dollars(1_000_000, cached=1.0) == pytest.approx(0.26)
    assert prompt_dollars(100_000, cached=0.5) == pytest.approx(0.083)


def test_a_time_is_that_of_the_nearest_longer_prompt_that_was_published() -> None:
    assert answer_seconds(1) == answer_seconds(24_709) == 5.0
    assert answer_seconds(24_710) == 9.6
    assert answer_seconds(789_240) == 48.6
    assert answer_seconds(789_241) is None


def test_terms_name_their_date_and_sources() -> None:
    assert "2026" in API_TERMS.date
    assert API_TERMS.source.startswith("https://")
    assert API_TERMS.latency_source.startswith("https://")
    assert list(API_TERMS.answers) == sorted(API_TERMS.answers)
