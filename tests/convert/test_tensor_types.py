import json
from pathlib import Path

import pytest

from longlens.convert.tensor_types import QUANTISED_FILE_TYPES, TensorTypes
from longlens.plan.presets import MODEL_PRESETS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "quantiser_types.json").read_text())
GLM = MODEL_PRESETS["glm-5.2"].config


@pytest.mark.parametrize("model", ["glm-5.2", "deepseek-v3.2", "smollm2-135m"])
@pytest.mark.parametrize("position", range(5))
def test_the_types_are_those_that_llama_quantize_chose(model: str, position: int) -> None:
    types = TensorTypes(MODEL_PRESETS[model].config, GOLDEN["file_types"][position].upper())
    seen = 0
    for kinds, names in GOLDEN["models"][model]["rows"].items():
        for name in names.split():
            assert types.of(name, (256, 256)) == kinds.split()[position], name
            seen += 1
    assert seen > 200


@pytest.mark.parametrize("file_type", ["F32", "BF16", "F16"])
def test_plain_files_differ_in_their_matrices_alone(file_type: str) -> None:
    types = TensorTypes(GLM, file_type)
    assert types.of("blk.0.ffn_up.weight", (12288, 6144)) == file_type
    assert types.of("blk.0.attn_norm.weight", (6144,)) == "F32"


def test_a_tensor_without_use_follows_its_name_and_rows() -> None:
    types = TensorTypes(GLM, "Q4_K_M")
    assert types.of("blk.78.nextn.embed_tokens.weight", (154880, 6144)) == "Q4_K"
    assert types.of("blk.0.other.weight", (10, 300)) == "F16"
    assert types.of("blk.0.other_norm.weight", (4, 256)) == "F32"
    assert types.of("blk.0.other.bias", (256,)) == "F32"


def test_only_what_the_mixture_does_not_want_is_wider() -> None:
    types = TensorTypes(GLM, "Q4_K_M")
    assert types.is_wider("blk.0.attn_k_b.weight", "Q5_0")
    assert not types.is_wider("blk.0.ffn_down.weight", "Q6_K")
    assert not TensorTypes(GLM, "Q8_0").is_wider("blk.0.ffn_down.weight", "Q8_0")
    assert not TensorTypes(GLM, "F16").is_wider("blk.0.ffn_down.weight", "F16")


def test_every_file_type_has_a_number() -> None:
    assert [TensorTypes(GLM, name).number for name in QUANTISED_FILE_TYPES] == [7, 18, 17, 15, 2, 1, 32, 0]
