from __future__ import annotations

import pytest

from longlens.plan.flops import flops_per_token
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.table_flops import flops_table


def test_a_row_holds_a_contexts_last_token_under_every_kind_of_attention() -> None:
    config = MODEL_PRESETS["glm-5.2"].config
    document = flops_table("GLM-5.2", config).as_json()
    row = document["rows"][-1]  # type: ignore[index]
    assert row["context"] == 1_048_576
    last = 1_048_575
    assert row["GQA"] == flops_per_token(config, last, attention="gqa").total
    assert row["dense MLA absorbed"] == flops_per_token(config, last, attention="dense_mla").total
    assert row["dense MLA expanded"] == flops_per_token(config, last, attention="dense_mla", form="expanded").total
    assert row["DSA every layer"] == flops_per_token(config, last, attention="dsa_every_layer").total
    assert row["IndexShare"] == flops_per_token(config, last).total
    assert row["DSA every layer / IndexShare"] == row["DSA every layer"] / row["IndexShare"]
    assert f"{row['DSA every layer / IndexShare']:.2f}" == "2.74"
    assert f"{row['dense MLA absorbed / IndexShare']:.1f}" == "40.3"


def test_text_prints_the_figures_of_the_reference() -> None:
    lines = flops_table("GLM-5.2", MODEL_PRESETS["glm-5.2"].config).as_text().splitlines()
    million = next(line for line in lines if line.strip().startswith("1M"))
    assert "779.2 G" in million
    assert "284.6 G" in million
    assert "2.74x" in million


@pytest.mark.parametrize(("name", "longest"), [("smollm2-135m", 8192), ("deepseek-v3.2", 131_072), ("pocket", 131_072)])
def test_contexts_end_where_the_model_ends(name: str, longest: int) -> None:
    table = flops_table(name, MODEL_PRESETS[name].config)
    assert [row[0] for row in table.rows][-1] == longest


def test_a_grouped_query_model_has_one_side_and_no_quotient() -> None:
    table = flops_table("SmolLM2", MODEL_PRESETS["smollm2-135m"].config)
    assert [column.name for column in table.columns] == ["context", "GQA"]
    assert len(table.notes) == 1


def test_curves_are_the_columns() -> None:
    table = flops_table("GLM-5.2", MODEL_PRESETS["glm-5.2"].config)
    assert table.chart is not None
    assert [curve.name for curve in table.chart.curves] == [column.name for column in table.columns[1:6]]
    for number, curve in enumerate(table.chart.curves):
        assert [(row[0], row[1 + number]) for row in table.rows] == list(curve.points)
