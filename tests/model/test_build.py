from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from longlens.errors import ConfigError
from longlens.kernels.reference import ReferenceKernels
from longlens.model.build import RunChoices, build_model
from longlens.model.config import ModelConfig
from longlens.model.mla import AttentionPolicy
from longlens.model.needs import parameter_needs
from longlens.model.state import cache_spec_of
from longlens.model.transformer import Transformer
from longlens.weights.expert_store import ResidentExperts
from tests.golden.tiny_models import CASES, case_weights
from tests.golden_models import ArrayStore, golden_config, logits_of, run_alone


class Asked(ArrayStore):
    """A store that keeps which parameters it was asked for."""

    def __init__(self, config: ModelConfig, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(config, arrays, torch.float32)
        self.names: list[str] = []

    def tensor(self, name: str) -> Tensor:
        self.names.append(name)
        return super().tensor(name)


class Ways(ReferenceKernels):
    """Kernels that count how often rows were gathered."""

    def __init__(self) -> None:
        super().__init__()
        self.num_gathered = 0

    def sparse_attend(self, *args: object, **options: object) -> Tensor:
        self.num_gathered += 1
        return super().sparse_attend(*args, **options)  # type: ignore[arg-type]


def built(case: str, choices: RunChoices, kernels: ReferenceKernels | None = None) -> Transformer:
    config = golden_config(case)
    return build_model(config, ArrayStore(config, case_weights(case), torch.float32), kernels or Ways(), choices)


@pytest.mark.parametrize("case", sorted(CASES))
def test_every_parameter_that_is_run_is_asked_for_once_and_no_other(case: str) -> None:
    config = golden_config(case)
    store = Asked(config, case_weights(case))
    build_model(config, store, ReferenceKernels(), RunChoices("f32"))
    assert sorted(store.names) == sorted(need.name for need in parameter_needs(config) if need.is_run)


def test_without_a_policy_rows_are_gathered_above_twice_the_topk() -> None:
    gathered = {}
    for tokens in (16, 17):
        kernels = Ways()
        run_alone(built("glm_topk8", RunChoices("f32"), kernels), list(range(tokens)))
        gathered[tokens] = kernels.num_gathered
    assert gathered == {16: 0, 17: 8}


def test_the_policy_of_the_plan_is_followed() -> None:
    kernels = Ways()
    run_alone(built("glm_topk8", RunChoices("f32", AttentionPolicy(40)), kernels), list(range(40)))
    assert kernels.num_gathered == 0


def test_the_cache_stores_what_the_plan_says() -> None:
    model = built("glm_topk8", RunChoices("bf16"))
    assert model.cache_spec == cache_spec_of(golden_config("glm_topk8"), "bf16")


def test_latent_attention_without_an_indexer_is_refused() -> None:
    config = replace(golden_config("glm_topk8"), indexer=None)
    store = ArrayStore(config, case_weights("glm_topk8"), torch.float32)
    with pytest.raises(ConfigError, match="latent attention but no indexer"):
        build_model(config, store, ReferenceKernels(), RunChoices("f32"))


def test_a_tied_head_is_the_embedding_itself() -> None:
    config = golden_config("llama_tied")
    store = Asked(config, case_weights("llama_tied"))
    model = build_model(config, store, ReferenceKernels(), RunChoices("f32"))
    assert "lm_head.weight" not in store.names
    embedding = torch.from_numpy(case_weights("llama_tied")["model.embed_tokens.weight"])
    assert model.vocab_size == embedding.shape[0]
    assert torch.equal(model.logits(torch.eye(64)), embedding.T)


def test_a_factor_tensor_reaches_the_rotary_table() -> None:
    plain = golden_config("llama_tied")
    config = replace(plain, rope=replace(plain.rope, has_factor_tensor=True))

    class WithFactors(ArrayStore):
        factor = 1.0

        def tensor(self, name: str) -> Tensor:
            return torch.full((8,), self.factor) if name == "model.rope_freqs" else super().tensor(name)

    store = WithFactors(config, case_weights("llama_tied"), torch.float32)
    without = built("llama_tied", RunChoices("f32"))
    of_one = build_model(config, store, ReferenceKernels(), RunChoices("f32"))
    store.factor = 4.0
    of_four = build_model(config, store, ReferenceKernels(), RunChoices("f32"))
    tokens = [5, 9, 2, 6]
    assert torch.equal(logits_of(without, tokens), logits_of(of_one, tokens))
    assert (logits_of(without, tokens) - logits_of(of_four, tokens)).abs().max() > 1e-3


def test_experts_come_from_the_store_layer_by_layer() -> None:
    config = golden_config("glm_topk8")
    prefixes: list[str] = []

    class Banks(ArrayStore):
        def experts(self, prefix: str) -> ResidentExperts:
            prefixes.append(prefix)
            return super().experts(prefix)

    build_model(config, Banks(config, case_weights("glm_topk8"), torch.float32), Ways(), RunChoices("f32"))
    assert prefixes == [f"model.layers.{layer}.mlp.experts." for layer in range(2, 8)]
