from __future__ import annotations

import pytest
import torch

from longlens.bench.attention_stack import ATTENTION_KINDS, StackSize, build_stack, stack_config
from longlens.errors import UsageError
from longlens.kernels.choose import choose_kernels
from longlens.model.config import GqaConfig
from longlens.model.state import cache_spec_of
from longlens.plan.presets import MODEL_PRESETS
from tests.convert.small_geometry import SMALL

SIZE = StackSize(SMALL, 8)


def cached_bytes(kind: str) -> dict[str, int]:
    spec = cache_spec_of(stack_config(kind, SIZE), "f32")
    return {kind: spec.bytes_of(kind) for kind in ("key", "value", "latent", "index_key") if spec.bytes_of(kind)}


def test_every_kind_caches_what_it_is_made_of() -> None:
    keys = 8 * (8 * 128) * 4
    assert cached_bytes("gqa") == {"key": keys, "value": keys}
    assert cached_bytes("dense mla") == {"latent": 8 * 320 * 4}
    assert cached_bytes("dsa") == {"latent": 8 * 320 * 4, "index_key": 8 * 64 * 4}
    assert cached_bytes("index share") == {"latent": 8 * 320 * 4, "index_key": 2 * 64 * 4}


def test_every_fourth_layer_is_full_when_positions_are_shared() -> None:
    indexer = stack_config("index share", SIZE).indexer
    assert indexer is not None
    assert indexer.full_layers == (0, 4)


def test_grouped_queries_have_the_latent_attentions_query_heads_in_whole_groups() -> None:
    assert stack_config("gqa", SIZE).attention == GqaConfig(8, 8, 128)  # two query heads are no group of eight


def test_every_kind_has_as_many_layers_and_the_same_hidden_size() -> None:
    choice = choose_kernels("cpu")
    stacks = [build_stack(kind, SIZE, choice, torch.float32, seed=0) for kind in ATTENTION_KINDS]
    assert {len(stack.layers) for stack in stacks} == {8}
    assert {stack.config.hidden_size for stack in stacks} == {256}


def test_a_geometry_without_an_indexer_is_refused() -> None:
    with pytest.raises(UsageError, match="no latent attention"):
        StackSize(MODEL_PRESETS["smollm2-135m"].config, 4)


def test_a_stack_has_a_layer() -> None:
    with pytest.raises(UsageError, match="0 layers"):
        StackSize(SMALL, 0)
