from __future__ import annotations

import pytest

from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.state import CacheSpec, CacheTensor, cache_spec_of, never_cancelled
from tests.golden.tiny_models import CASES
from tests.model.released_configs import DEEPSEEK_V32, GLM_5, GLM_5_2, GLM_5_2_FULL_LAYERS, LLAMA, Config


def spec_of(config: Config, element: str = "bf16") -> CacheSpec:
    return cache_spec_of(read_huggingface_config(config).config, element)  # type: ignore[arg-type]


def test_a_token_of_glm_5_2_takes_95232_bytes() -> None:
    spec = spec_of(GLM_5_2)
    assert spec.bytes_per_token == 95_232
    assert spec.bytes_of("latent") == 78 * 576 * 2
    assert spec.bytes_of("index_key") == 21 * 128 * 2


def test_index_keys_on_every_layer_would_take_109824_bytes() -> None:
    assert spec_of(GLM_5).bytes_per_token == 109_824


def test_index_keys_are_cached_on_full_layers_only() -> None:
    spec = spec_of(GLM_5_2)
    assert tuple(tensor.layer for tensor in spec.tensors if tensor.kind == "index_key") == GLM_5_2_FULL_LAYERS
    assert [tensor.layer for tensor in spec.tensors if tensor.kind == "latent"] == list(range(78))


def test_a_full_layer_and_the_shared_layers_after_it_form_a_group() -> None:
    groups = {tensor.layer: tensor.group for tensor in spec_of(CASES["glm_topk8"]).tensors}  # FFSFSSSF
    assert groups == {0: 0, 1: 1, 2: 1, 3: 3, 4: 3, 5: 3, 6: 3, 7: 7}


def test_where_nothing_is_shared_every_layer_is_its_own_group() -> None:
    assert all(tensor.group == tensor.layer for tensor in spec_of(DEEPSEEK_V32).tensors)
    assert all(tensor.group == tensor.layer for tensor in spec_of(LLAMA).tensors)


def test_grouped_query_attention_caches_keys_and_values_of_its_key_heads() -> None:
    spec = spec_of(LLAMA)
    assert {(tensor.kind, tensor.width) for tensor in spec.tensors} == {("key", 3 * 64), ("value", 3 * 64)}
    assert spec.bytes_per_token == 30 * 2 * 192 * 2


@pytest.mark.parametrize(("element", "width"), [("bf16", 2), ("f16", 2), ("f32", 4)])
def test_rows_grow_with_the_element(element: str, width: int) -> None:
    assert CacheTensor("latent", 0, 576, element, 0).row_bytes == 576 * width  # type: ignore[arg-type]
    assert spec_of(GLM_5_2, element).bytes_per_token == 95_232 // 2 * width


def test_nobody_cancels_a_step_by_default() -> None:
    assert never_cancelled() is False
