"""Files on disk against transformers on the dequantised weights: every step from bytes to logits takes part."""

from __future__ import annotations

import pytest

from tests.agreement.comparisons import FIXTURE_LENGTHS, LOGIT_BOUND, recorded, with_dequantised
from tests.agreement.fixture_models import FIXTURES, RECORDED_AS, open_fixture


@pytest.mark.parametrize("length", FIXTURE_LENGTHS)
@pytest.mark.parametrize("fixture", RECORDED_AS)
def test_a_file_gives_the_logits_and_choices_of_transformers(fixture: str, length: int) -> None:
    agreement = with_dequantised(fixture, length)
    assert agreement.num_other_rows == 0
    assert agreement.difference <= LOGIT_BOUND


@pytest.mark.parametrize("fixture", RECORDED_AS)
def test_a_file_has_no_key_and_no_tensor_that_nobody_knows(fixture: str) -> None:
    opened = open_fixture(fixture)
    assert opened.unknown_keys == ()
    assert opened.catalog.unknown == ()
    assert opened.catalog.ignored == ()
    assert opened.catalog.has_mtp == fixture.startswith("tiny-glm")


def test_every_fixture_and_every_recording_takes_part() -> None:
    on_disk = {path.name for path in FIXTURES.iterdir() if path.is_dir() or path.suffix == ".gguf"}
    assert on_disk - set(RECORDED_AS) == {"tiny-glm-Q8_0-00002-of-00002.gguf"}  # the second shard of one that does
    assert {key.split("/")[0] for key in recorded("quantised")} == set(RECORDED_AS.values())


def test_choices_are_recorded_for_every_fixture_that_makes_any() -> None:
    rows = {
        fixture: with_dequantised(fixture, 64).num_rows for fixture in ("tiny-glm-F32.gguf", "tiny-llama-Q8_0.gguf")
    }
    assert rows == {"tiny-glm-F32.gguf": 6 * 64, "tiny-llama-Q8_0.gguf": 0}
