"""pocket's training computes our model: same parameters, same logits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longlens.kernels.interface import MlaUpProjections
from longlens.kernels.reference import ReferenceKernels
from longlens.model.build import RunChoices, build_model
from longlens.model.config import ModelConfig
from longlens.model.transformer import Transformer
from longlens.weights.expert_store import ResidentExperts
from tests.golden_models import Recording, logits_of, run_alone
from training.pocket import checkpoint
from training.pocket.model import TrainableModel, fresh_parameters
from training.pocket.train import model_config

LENGTH = 150


class Parameters:
    """Gives the model its parameters as they are."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self.device = torch.device("cpu")
        self._parameters = parameters

    def tensor(self, name: str) -> Tensor:
        return self._parameters[name]

    def matrix(self, name: str) -> Tensor:
        return self.tensor(name)

    def up_projections(self, prefix: str) -> MlaUpProjections:
        return MlaUpProjections(self.tensor(f"{prefix}key"), self.tensor(f"{prefix}value"))

    def experts(self, prefix: str) -> ResidentExperts:
        gate, up, down = (self.tensor(f"{prefix}{name}_proj.weight") for name in ("gate", "up", "down"))
        return ResidentExperts(gate, up, down)


def config_with(topk: int) -> ModelConfig:
    config = model_config(True)
    assert config.indexer is not None
    return replace(config, indexer=replace(config.indexer, index_topk=topk))


def both(topk: int) -> tuple[TrainableModel, Transformer]:
    config = config_with(topk)
    parameters = fresh_parameters(config, topk, torch.device("cpu"))
    generator = torch.Generator().manual_seed(topk)
    for value in parameters.values():
        if value.dim() == 1:  # norms and biases that do something
            value += 0.2 * torch.randn(value.shape, generator=generator)
    engine = build_model(config, Parameters(parameters), ReferenceKernels(), RunChoices("f32"))
    return TrainableModel(config, parameters, torch.float32), engine


def some_ids(config: ModelConfig, count: int) -> Tensor:
    return torch.randint(0, config.vocab_size, (count, LENGTH), generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("topk", [LENGTH, 48, 8, 1])
def test_training_computes_the_models_logits(topk: int) -> None:
    trained, engine = both(topk)
    ids_BT = some_ids(trained.config, 2)
    with torch.no_grad():
        result = trained.forward(ids_BT, torch.arange(LENGTH).expand_as(ids_BT), topk=topk)
        logits_BTV = trained.logits(result.hidden_ND).view(2, LENGTH, -1)
    for row, ids in enumerate(ids_BT):
        assert (logits_BTV[row] - logits_of(engine, ids.tolist())).abs().max() <= 2e-4


def test_dense_training_equals_the_model_that_selects_everything() -> None:
    trained, engine = both(LENGTH)
    ids_BT = some_ids(trained.config, 1)
    with torch.no_grad():
        hidden_ND = trained.forward(ids_BT, torch.arange(LENGTH)[None]).hidden_ND
    assert (hidden_ND - run_alone(engine, ids_BT[0].tolist())).abs().max() <= 2e-4


def test_loads_count_the_models_choices_of_experts() -> None:
    trained, engine = both(48)
    ids_BT = some_ids(trained.config, 1)
    trace = Recording()
    run_alone(engine, ids_BT[0].tolist(), trace=trace)
    with torch.no_grad():
        loads = trained.forward(ids_BT, torch.arange(LENGTH)[None], topk=48).loads
    for layer, load_E in loads.items():
        chosen = torch.from_numpy(trace.chosen_experts(layer)).flatten()
        expected_E = torch.bincount(chosen, minlength=len(load_E)) / LENGTH
        assert torch.allclose(load_E, expected_E)


def test_the_index_loss_trains_indexers_only_and_the_token_loss_all_else() -> None:
    trained, _ = both(48)
    for parameter in trained.parameters.values():
        parameter.requires_grad_()
    ids_BT = some_ids(trained.config, 1)
    rows_BR = torch.tensor([[3, 70, 149]])
    result = trained.forward(ids_BT, torch.arange(LENGTH)[None], rows_BR, topk=48)
    assert result.index_loss is not None
    result.index_loss.backward(retain_graph=True)
    touched = {name for name, value in trained.parameters.items() if value.grad is not None and value.grad.any()}
    assert touched
    assert all(".indexer." in name for name in touched)
    for parameter in trained.parameters.values():
        parameter.grad = None
    trained.losses(result.hidden_ND, ids_BT.flatten()).mean().backward()
    missed = {name for name, value in trained.parameters.items() if value.grad is None}
    draft = f"model.layers.{trained.config.num_hidden_layers}."
    assert all(
        ".indexer." in name or name.startswith(draft) or name.endswith("e_score_correction_bias") for name in missed
    )


def test_the_index_loss_is_zero_when_the_indexer_agrees() -> None:
    # One visible position: both distributions put everything there.
    trained, _ = both(8)
    result = trained.forward(some_ids(trained.config, 1), torch.arange(LENGTH)[None], torch.tensor([[0]]), topk=8)
    assert result.index_loss is not None
    assert abs(float(result.index_loss)) <= 1e-6


def test_a_checkpoint_keeps_every_parameter_within_bf16(tmp_path) -> None:
    config = model_config(True)
    parameters = fresh_parameters(config, 3, torch.device("cpu"))
    checkpoint.save(config, parameters, tmp_path)
    back = checkpoint.load(config, tmp_path)
    assert back.keys() == parameters.keys()
    for name, value in parameters.items():
        assert torch.equal(back[name], value.bfloat16().float()), name
