from __future__ import annotations

import pytest

from longlens.errors import UnsupportedModelError
from longlens.model.config_reading import read_config
from tests.golden.tiny_models import CASES


def test_the_layout_decides_which_spelling_is_read() -> None:
    assert read_config("safetensors", CASES["glm_topk8"], ()).config.architecture == "glm_moe_dsa"
    with pytest.raises(UnsupportedModelError, match=r"general\.architecture"):
        read_config("gguf", CASES["glm_topk8"], ())
