from __future__ import annotations

from dataclasses import replace

import pytest

from longlens.bench.synthetic import MID
from longlens.convert.gguf_families import metadata_of_any_config
from longlens.errors import UnsupportedModelError
from longlens.model.config import LinearScaling, YarnScaling
from longlens.model.config_gguf import read_gguf_config
from longlens.plan.presets import MODEL_PRESETS


@pytest.mark.parametrize("name", ["mid", *(name for name in MODEL_PRESETS if name != "pocket")])
def test_every_preset_reads_back_as_it_was_written(name: str) -> None:
    config = MID.config if name == "mid" else MODEL_PRESETS[name].config
    tensors = () if config.tie_word_embeddings else ("output.weight",)
    reading = read_gguf_config(metadata_of_any_config(config), tensors)
    # GGUF's rows of q and k are reordered, so that its llama turns pairs.
    assert reading.config == replace(config, rope=replace(config.rope, is_interleaved=True))
    assert reading.unknown_keys == ()


@pytest.mark.parametrize("name", ["smollm2-135m", "glm-5.2"])
def test_a_rotary_scaling_that_cannot_be_said_is_refused(name: str) -> None:
    config = MODEL_PRESETS[name].config
    with pytest.raises(UnsupportedModelError, match="scaled"):
        metadata_of_any_config(replace(config, rope=replace(config.rope, scaling=LinearScaling(2.0))))


def test_yarn_with_two_amplitudes_cannot_be_said() -> None:
    config = MODEL_PRESETS["deepseek-v3.2"].config
    assert isinstance(config.rope.scaling, YarnScaling)
    scaling = replace(config.rope.scaling, mscale=0.5)
    with pytest.raises(UnsupportedModelError, match="YarnScaling"):
        metadata_of_any_config(replace(config, rope=replace(config.rope, scaling=scaling)))
