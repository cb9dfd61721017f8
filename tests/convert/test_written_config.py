from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longlens.convert.written_config import ROPE_FACTORS, written_config
from longlens.errors import UnsupportedModelError
from longlens.formats.checkpoint import open_checkpoint
from longlens.model.config_huggingface import read_huggingface_config
from longlens.weights.resident import ResidentWeights
from tests.convert.checkpoints import catalog_of
from tests.convert.small_geometry import SMALL
from tests.golden.make_fixtures import configs

FIXTURES = Path(__file__).parents[1] / "fixtures"
LLAMA = read_huggingface_config(configs()["tiny-llama"]).config


def test_a_missing_draft_layer_is_not_promised() -> None:
    config = replace(SMALL, num_nextn_predict_layers=1)
    assert written_config(config, has_mtp=True).config.num_nextn_predict_layers == 1
    assert written_config(config, has_mtp=False).config.num_nextn_predict_layers == 0


def test_llama_3s_stretched_frequencies_become_the_tensor_that_the_converter_writes() -> None:
    written = written_config(LLAMA, has_mtp=False)
    assert written.config.rope.scaling is None
    assert written.config.rope.has_factor_tensor
    with open_checkpoint(FIXTURES / "tiny-llama-Q8_0.gguf") as file:
        theirs = ResidentWeights(file, catalog_of(file), torch.device("cpu"), torch.float32).tensor(ROPE_FACTORS)
    torch.testing.assert_close(written.computed[ROPE_FACTORS], theirs)
    assert theirs.max() > 1


def test_rows_of_queries_and_keys_of_llama_change_places() -> None:
    written = written_config(LLAMA, has_mtp=False)
    heads = {name: written.heads_of(f"model.layers.0.self_attn.{name}") for name in ("q_proj.weight", "k_proj.bias")}
    attention = LLAMA.attention
    assert heads == {
        "q_proj.weight": attention.num_attention_heads,
        "k_proj.bias": attention.num_key_value_heads,  # type: ignore[union-attr]
    }
    assert written.heads_of("model.layers.0.self_attn.v_proj.weight") is None
    as_gguf = replace(LLAMA, rope=replace(LLAMA.rope, is_interleaved=True))
    assert not written_config(as_gguf, has_mtp=False).paired_heads


@pytest.mark.parametrize("place", ["rope", "indexer"])
def test_pairs_that_lie_otherwise_are_refused(place: str) -> None:
    assert not written_config(SMALL, has_mtp=False).paired_heads
    changes = {
        "rope": {"rope": replace(SMALL.rope, is_interleaved=False)},
        "indexer": {"indexer": replace(SMALL.indexer, is_rope_interleaved=False)},  # type: ignore[type-var]
    }
    with pytest.raises(UnsupportedModelError, match="rotary pairs"):
        written_config(replace(SMALL, **changes[place]), has_mtp=False)  # type: ignore[arg-type]
