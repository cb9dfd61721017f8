from __future__ import annotations

from pathlib import Path

import pytest

from longlens.cli.plan_model import find_model
from longlens.errors import ModelNotFoundError
from longlens.plan.presets import MODEL_PRESETS
from tests.cli.terminal import FIXTURES, TINY


@pytest.mark.parametrize("name", ["glm-5.2", "GLM-5.2", "zai-org/GLM-5.2"])
def test_a_preset_is_found_by_name_and_by_repository_without_a_network(name: str) -> None:
    model = find_model(name)
    assert model.preset is MODEL_PRESETS["glm-5.2"]
    assert model.stored is None


def test_a_checkpoint_counts_with_the_bytes_of_its_file() -> None:
    quantised, plain = find_model(str(FIXTURES / "tiny-glm-Q8_0-00001-of-00002.gguf")), find_model(TINY)
    assert quantised.stored is not None
    assert plain.stored is not None
    assert 0 < sum(quantised.stored.values()) < sum(plain.stored.values()) < Path(TINY).stat().st_size


def test_a_missing_file_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        find_model("./nothing.gguf")
