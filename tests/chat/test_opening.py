from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from longlens.chat.opening import Opening, open_model
from longlens.errors import (
    CapacityError,
    ConfigError,
    ContextLengthError,
    ModelNotFoundError,
    ParameterError,
    UsageError,
)
from longlens.plan.planner import Wishes

FIXTURES = Path(__file__).parents[1] / "fixtures"


def folder_with(tmp_path: Path, **changes: object) -> str:
    folder = Path(shutil.copytree(FIXTURES / "tiny-glm", tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_cache_and_engine_follow_the_plan() -> None:
    opened = open_model(Opening(str(FIXTURES / "tiny-glm-Q4_K_M.gguf"), "cpu", Wishes(context=200, chunk_tokens=32)))
    assert opened.plan.context == opened.engine.limits.max_context == 200
    assert opened.engine.limits.chunk_tokens == 32
    assert opened.engine.pool.num_tokens * opened.plan.kv_bytes_per_token == opened.plan.kv_bytes
    assert opened.warnings == ()


def test_an_unknown_key_is_a_warning_by_name_and_an_error_if_strict(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, hidden_gems=3)
    assert open_model(Opening(folder, "cpu")).warnings == ("unknown configuration key hidden_gems",)
    with pytest.raises(ConfigError, match="hidden_gems"):
        open_model(Opening(folder, "cpu", is_strict=True))


def test_a_shape_that_is_not_the_configurations_is_an_error_by_name(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="embed_tokens"):
        open_model(Opening(folder_with(tmp_path, vocab_size=100), "cpu"))


def test_a_context_beyond_the_models_is_refused_before_weights_are_read() -> None:
    with pytest.raises(ContextLengthError, match="longest"):
        open_model(Opening(str(FIXTURES / "tiny-glm-F32.gguf"), "cpu", Wishes(context=10**6)))


def test_a_plan_that_cannot_run_yet_is_refused_with_what_runs() -> None:
    with pytest.raises(UsageError, match="fp8 are not built yet") as caught:
        open_model(Opening(str(FIXTURES / "tiny-glm-F32.gguf"), "cpu", Wishes(cache_element="fp8")))
    assert "bf16" in caught.value.mend


def test_more_sequences_than_memory_holds_are_refused() -> None:
    with pytest.raises(CapacityError, match="are free"):
        open_model(Opening(str(FIXTURES / "tiny-glm-F32.gguf"), "cpu", Wishes(context=4096, num_sequences=10**7)))


def test_a_missing_file_names_the_nearest() -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean") as caught:
        open_model(Opening(str(FIXTURES / "tiny-glm-F16.gguf")))
    assert "tiny-glm-F32.gguf" in caught.value.mend
