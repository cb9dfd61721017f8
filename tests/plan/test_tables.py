from __future__ import annotations

import pytest

from longlens.errors import UsageError
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.tables import TABLES, make_table, named_preset


def test_the_default_is_glm_5_2() -> None:
    assert make_table("kv") == make_table("kv", MODEL_PRESETS["glm-5.2"])


@pytest.mark.parametrize("name", sorted(TABLES))
@pytest.mark.parametrize("model", sorted(MODEL_PRESETS))
def test_every_table_can_be_made_for_every_preset(name: str, model: str) -> None:
    table = make_table(name, model)
    assert table.name == name
    assert table.rows
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert len({column.name for column in table.columns}) == len(table.columns), "JSON rows are objects by name"


def test_the_articles_claims_stand_below_its_geometry_only() -> None:
    with_claims, without = (make_table("kv", name).notes for name in ("glm-5.2-64b", "glm-5.2"))
    assert sum(note.startswith("an article says") for note in with_claims) == 2
    assert not any(note.startswith("an article says") for note in without)
    assert any("no such checkpoint exists" in note for note in with_claims)


@pytest.mark.parametrize(("model", "widest"), [("glm-5.2", "fp8"), ("glm-5.2-64b", "fp8"), ("smollm2-135m", "bf16")])
def test_the_matrix_begins_with_the_file_that_a_model_is_published_as(model: str, widest: str) -> None:
    kinds = dict.fromkeys(row[1] for row in make_table("hardware", model).rows)
    assert list(kinds) == [widest, "q8_0", "q4_k_m"]


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        make_table("hardwear")
    assert "hardware" in caught.value.mend
    with pytest.raises(UsageError) as caught:
        named_preset("glm5.2")
    assert "glm-5.2" in caught.value.mend
