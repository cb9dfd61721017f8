from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.agreement import comparisons
from tests.agreement.comparisons import FORMS_BOUND, LOGIT_BOUND, OTHER_PATH_BOUND, TIE_BOUND, Agreement, recorded
from tests.agreement.fixture_models import RECORDED_AS
from tests.agreement.make_table import table
from tests.agreement.mutations import MUTATIONS

DOCS = Path(__file__).parents[2] / "docs"


def test_an_agreement_holds_only_with_close_logits_and_the_same_choices() -> None:
    assert Agreement(2e-4, 0, 5).holds
    assert not Agreement(2.1e-4, 0, 5).holds
    assert not Agreement(0.0, 1, 5).holds


@pytest.mark.parametrize("case", ["glm_topk48", "deepseek_topk8"])
def test_a_masked_form_is_the_gathered_one_to_rounding(case: str) -> None:
    for form in comparisons.FORMS:
        assert comparisons.masked_against_gathered(case, form, torch.float64) <= FORMS_BOUND
        assert comparisons.masked_against_gathered(case, form, torch.float32) <= OTHER_PATH_BOUND


@pytest.mark.parametrize("case", ["glm_topk48", "llama_llama3"])
def test_another_sequence_in_the_step_changes_nothing(case: str) -> None:
    assert comparisons.beside_another(case) <= OTHER_PATH_BOUND


def test_an_arbitrary_sequence_that_parts_did_so_at_a_tie() -> None:
    outcomes = comparisons.with_arbitrary_seeds("glm_topk8")
    gaps = [outcome.gap for outcome in outcomes if outcome.gap is not None]
    assert all(outcome.difference <= LOGIT_BOUND for outcome in outcomes if outcome.gap is None)
    assert len(gaps) < len(outcomes) == 8
    assert all(gap <= TIE_BOUND for gap in gaps)


def test_a_table_is_written_as_markdown() -> None:
    assert list(table(["a", "b"], [(1, 2)])) == ["| a | b |", "|---|---|", "| 1 | 2 |"]


def test_the_page_of_agreement_has_a_row_for_every_recording() -> None:
    page = (DOCS / "agreement.md").read_text()
    rows = [f"| {case} | {length} |" for case, length in comparisons.case_lengths()]
    rows += [f"| {fixture} | {length} |" for fixture in RECORDED_AS for length in comparisons.FIXTURE_LENGTHS]
    seeds = {key.split("/")[0]: len(array) for key, array in recorded("arbitrary_seeds").items() if "/seeds" in key}
    assert all(f"of {count} |" in page and f"| {case} |" in page for case, count in seeds.items())
    assert [row for row in rows if row not in page] == []


def test_the_page_of_mutations_names_every_mutation() -> None:
    page = (DOCS / "experiments" / "mutations.md").read_text()
    assert [name for name in MUTATIONS if f"| {name} |" not in page] == []
