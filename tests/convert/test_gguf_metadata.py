from dataclasses import replace
from pathlib import Path

import pytest

from longlens.convert.gguf_metadata import metadata_of_config
from longlens.errors import UnsupportedModelError
from longlens.formats.checkpoint import open_checkpoint
from longlens.model.config import LinearScaling, ModelConfig
from longlens.model.config_gguf import read_gguf_config
from tests.golden_models import golden_config

FIXTURES = Path(__file__).parents[1] / "fixtures"


def test_the_keys_are_those_of_llama_cpps_converter() -> None:
    with open_checkpoint(FIXTURES / "tiny-glm-F32.gguf") as checkpoint:
        config = read_gguf_config(checkpoint.metadata, checkpoint.tensors).config
        theirs = {key: value for key, value in checkpoint.metadata.items() if key.startswith("glm-dsa.")}
    ours = metadata_of_config(config)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == (pytest.approx(value) if isinstance(value, float) else value), key


def read_back(config: ModelConfig) -> ModelConfig:
    metadata: dict[str, object] = {"general.architecture": "glm-dsa", **metadata_of_config(config)}
    names = [] if config.tie_word_embeddings else ["output.weight"]
    return read_gguf_config(metadata, names).config


@pytest.mark.parametrize("case", ["glm_topk8", "glm_topk4096", "glm_tame"])
def test_a_configuration_survives_the_way_there_and_back(case: str) -> None:
    config = golden_config(case)
    attention = replace(config.attention, latent_norm_eps=config.rms_norm_eps)
    assert read_back(config) == replace(config, attention=attention)


def test_other_architectures_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="deepseek_v32"):
        metadata_of_config(golden_config("deepseek_topk8"))


def test_scaled_rotary_is_refused() -> None:
    config = golden_config("glm_topk8")
    with pytest.raises(UnsupportedModelError, match="rotary"):
        metadata_of_config(replace(config, rope=replace(config.rope, scaling=LinearScaling(2.0))))


def test_dense_layers_behind_sparse_ones_are_refused() -> None:
    config = golden_config("glm_topk8")
    assert config.moe is not None
    moe = replace(config.moe, is_sparse=(True, *[False] * (config.num_hidden_layers - 1)))
    with pytest.raises(UnsupportedModelError, match="dense layers"):
        metadata_of_config(replace(config, moe=moe))
