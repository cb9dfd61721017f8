from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.sharing_ratio import PUBLISHED_RATIO, RATIO_DEFINITIONS, sharing_ratio, whole_ratio

GLM = MODEL_PRESETS["glm-5.2"].config


def test_every_definition_gives_the_value_of_the_reference() -> None:
    found = {definition.name: f"{sharing_ratio(GLM, definition):.2f}" for definition in RATIO_DEFINITIONS}
    assert found == {
        "everything, absorbed core": "2.73",
        "everything, expanded core": "2.80",
        "weights without the head, expanded core": "2.82",
        "weights without the head, no core": "2.89",
        "nominal 40 B weights, no core": "2.88",
        "everything, absorbed core, a quarter of the layers": "2.86",
        "everything, expanded core, a quarter of the layers": "2.94",
        "attention only, absorbed core": "3.42",
        "scoring only": "3.71",
        "mean over a whole prefill, expanded core": "2.35",
    }


def test_with_the_extra_indexers_matrices_it_is_the_quotient_of_the_table() -> None:
    assert f"{whole_ratio(GLM):.2f}" == "2.74"


def test_the_published_figure_rounds_from_four_definitions() -> None:
    rounded = [d.name for d in RATIO_DEFINITIONS if round(sharing_ratio(GLM, d), 1) == PUBLISHED_RATIO]
    assert rounded == [
        "weights without the head, no core",
        "nominal 40 B weights, no core",
        "everything, absorbed core, a quarter of the layers",
        "everything, expanded core, a quarter of the layers",
    ]


def test_a_model_without_an_indexer_has_nothing_to_share() -> None:
    smol = MODEL_PRESETS["smollm2-135m"].config
    with pytest.raises(UsageError, match="no indexer"):
        sharing_ratio(smol, RATIO_DEFINITIONS[0])
    with pytest.raises(UsageError, match="not defined"):
        whole_ratio(smol)


def test_a_model_that_shares_nothing_saves_nothing() -> None:
    assert whole_ratio(MODEL_PRESETS["glm-5"].config) == 1


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(RATIO_DEFINITIONS), st.integers(1, 2**20), st.integers(0, 2**20))
def test_the_saving_grows_with_the_context_up_to_that_of_scoring(definition, context: int, more: int) -> None:
    near, far = sharing_ratio(GLM, definition, context), sharing_ratio(GLM, definition, context + more)
    # Below top-k the core grows with the context as scoring does, so the quotient may stand still.
    assert 1 <= near <= far * (1 + 1e-12)
    assert far <= (4 if definition.full_layers == "quarter" else 78 / 21) + 1e-9
