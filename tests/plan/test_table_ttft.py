from __future__ import annotations

from longlens.plan.compute_limit import compute_limit_seconds
from longlens.plan.hardware import HARDWARE, Hardware
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.table_ttft import Waiting, ttft_table

GLM = MODEL_PRESETS["glm-5.2"].config
MACHINES = [HARDWARE["h200-x8"], HARDWARE["laptop-16"]]


def predictor(hardware: Hardware, context: int) -> Waiting | None:
    if hardware.name == "laptop-16":
        return None
    return Waiting("fp8", context > 500_000, context / 1000, context / 100_000, None, 50.0)


def test_machines_on_which_nothing_fits_have_no_row() -> None:
    table = ttft_table("GLM", GLM, MACHINES, predictor)
    assert {row[0] for row in table.rows} == {"8 x H200 SXM"}
    assert [row[1] for row in table.rows] == [8192, 32_768, 131_072, 524_288, 1_048_576]


def test_a_row_holds_the_prediction_and_the_limit_of_arithmetic() -> None:
    row = ttft_table("GLM", GLM, MACHINES, predictor).rows[2]
    limit = compute_limit_seconds(GLM, HARDWARE["h200-x8"], 131_072)
    assert row[2:] == ("fp8", 131.072, 1.31072, None, limit, 50.0)


def test_weights_on_disk_are_told() -> None:
    rows = ttft_table("GLM", GLM, MACHINES, predictor).rows
    assert [row[2] for row in rows[2:4]] == ["fp8", "fp8, partly on disk"]


def test_contexts_end_where_the_model_ends() -> None:
    table = ttft_table("SmolLM2", MODEL_PRESETS["smollm2-135m"].config, MACHINES, predictor)
    assert [row[1] for row in table.rows] == [8192]


def test_curves_are_the_cold_times() -> None:
    table = ttft_table("GLM", GLM, MACHINES, predictor)
    assert table.chart is not None
    (curve,) = table.chart.curves
    assert list(curve.points) == [(row[1], row[3]) for row in table.rows]
    assert ttft_table("GLM", GLM, MACHINES[1:], predictor).chart is None
