from __future__ import annotations

import pytest

from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.table_kv import kv_table


def rows(name: str) -> dict[str, dict[str, object]]:
    document = kv_table(name, MODEL_PRESETS[name].config).as_json()
    return {row["format"]: row for row in document["rows"]}  # type: ignore[attr-defined]


def test_text_prints_the_figures_of_the_reference() -> None:
    lines = kv_table("GLM-5.2", MODEL_PRESETS["glm-5.2"].config).as_text().splitlines()
    bf16 = next(line for line in lines if line.startswith("bf16  "))
    assert "95,232" in bf16
    assert "93.00 GiB" in bf16
    scaled = next(line for line in lines if line.startswith("fp8_ds_mla, fp8 index keys  "))
    assert "53,940" in scaled
    assert "52.68 GiB" in scaled


def test_quotients_are_against_bf16_as_longlens_stores_it() -> None:
    found = rows("glm-5.2")
    assert found["bf16"]["against bf16"] == 1
    assert f"{found['GQA 8x128, bf16']['against bf16']:.2f}" == "3.35"
    assert f"{found['GQA 8x256, bf16']['against bf16']:.1f}" == "6.7"
    assert f"{found['the same attention expanded, bf16']['against bf16']:.1f}" == "53.7"


def test_it_says_what_longlens_stores() -> None:
    assert [name for name, row in rows("glm-5.2").items() if row["stored by longlens"] == "yes"] == ["f32", "bf16"]


def test_contexts_end_where_the_model_ends() -> None:
    names = [column.name for column in kv_table("SmolLM2", MODEL_PRESETS["smollm2-135m"].config).columns]
    assert "8K" in names
    assert "64K" not in names


@pytest.mark.parametrize("name", ["glm-5.2", "smollm2-135m"])
def test_bytes_of_a_context_are_those_of_its_tokens(name: str) -> None:
    for row in rows(name).values():
        assert row["8K"] == 8192 * row["bytes a token"]  # type: ignore[operator]
        assert row["of these index keys"] < row["bytes a token"]  # type: ignore[operator]


def test_curves_are_the_rows() -> None:
    table = kv_table("GLM-5.2", MODEL_PRESETS["glm-5.2"].config)
    assert table.chart is not None
    assert [curve.name for curve in table.chart.curves] == [row[0] for row in table.rows]
    assert table.chart.curves[1].points[-1] == (1_048_576, 93 * 2**30)
