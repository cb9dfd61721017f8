"""Each of five wrong models must be noticed (docs/experiments/mutations.md)."""

from __future__ import annotations

import pytest

from tests.agreement.comparisons import LOGIT_BOUND, with_llama_cpp, with_transformers
from tests.agreement.mutations import MUTATIONS

IN_THE_INDEXER = [name for name in MUTATIONS if "router" not in name]


def test_without_a_mutation_everything_agrees() -> None:
    assert with_transformers("glm_topk8", 64).holds
    assert with_transformers("glm_topk4096", 64).holds


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_model_no_longer_agrees_with_transformers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)
    agreement = with_transformers("glm_topk8", 64)
    assert not agreement.holds
    assert agreement.difference > 1000 * LOGIT_BOUND
    assert agreement.num_other_rows > 0


@pytest.mark.parametrize("name", IN_THE_INDEXER)
def test_a_wrong_selection_is_invisible_while_everything_is_selected(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTATIONS[name](monkeypatch)
    assert with_transformers("glm_topk4096", 64).holds


@pytest.mark.parametrize("name", ["a shared layer takes another layer's set", "router bias added to the weights"])
def test_a_replay_still_notices_what_is_not_the_indexers_own_choice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)
    assert with_llama_cpp(64).replayed > LOGIT_BOUND
