from __future__ import annotations

import pytest

from longlens.plan.article import NOT_AVAILABLE, Claim, article_claims, article_notes, article_table


def claim(words: str) -> Claim:
    (found,) = [claim for claim in article_claims() if words in claim.said]
    return found


def test_the_29_is_told_apart_by_what_is_counted() -> None:
    found = claim("2.9x")
    assert found.derived.startswith("2.74x for GLM-5.2, 2.68x for this geometry")
    assert "2.89x" in found.reason
    assert "2.86x" in found.reason
    assert "not against dense attention" in found.reason


def test_no_layout_gives_62_percent() -> None:
    found = claim("62 %")
    assert found.derived == "70.0% against GQA 8x128, 12.6% by IndexShare, 43.4% by fp8_ds_mla rows"
    assert "62.7% of the operations" in found.reason


def test_32_gb_is_right_for_this_geometry() -> None:
    found = claim("32 GB")
    assert found.derived == "32.0 GB for 10^6 tokens, 33.6 GB for 2^20"
    assert "32,000 B a token, index keys on 8 of 26 layers" in found.reason
    assert "95,232 B, 95.2 GB" in found.reason


@pytest.mark.parametrize(
    ("words", "size", "share"), [("24 GB and Q4_K_M", "38.0 GB", "35%"), ("48 GB and Q8_0", "67.1 GB", "25%")]
)
def test_neither_machine_holds_63_billion_weights(words: str, size: str, share: str) -> None:
    found = claim(words)
    assert found.derived.startswith(f"{size} of weights")
    assert "63.1 B parameters do not fit" in found.reason
    assert f"at least {share} of the experts" in found.reason


def test_times_that_could_not_be_found_are_not_invented() -> None:
    times = [found for found in article_claims() if found.topic == "ttft"]
    assert len(times) == 3
    assert all(NOT_AVAILABLE in found.said for found in times)
    assert "84.2 s on RTX 4090" in times[-1].derived


def test_every_claim_stands_in_the_table_with_a_reason_of_one_line() -> None:
    table = article_table()
    assert len(table.rows) == len(article_claims()) == 8
    assert all(isinstance(row[3], str) and row[3] and "\n" not in row[3] for row in table.rows)


def test_notes_of_a_topic_are_its_claims() -> None:
    (flops,) = article_notes("flops")
    assert flops.startswith("an article says 2.9x fewer FLOPs a token at 1M; derived: 2.74x")
    assert len(article_notes("kv")) == len(article_notes("hardware")) == 2
