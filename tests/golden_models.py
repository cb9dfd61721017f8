"""The tiny models of tests/golden, built with longlens, and a cache that is nothing but lists of tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longlens.kernels.interface import CachedRows, MlaUpProjections
from longlens.kernels.reference import ReferenceKernels
from longlens.model.build import RunChoices, build_model
from longlens.model.config import MlaConfig, ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.mla import AttentionPolicy
from longlens.model.needs import parameter_needs
from longlens.model.state import SequenceChunk
from longlens.model.trace import StepTrace
from longlens.model.transformer import Transformer
from longlens.weights.expert_store import ResidentExperts
from longlens.weights.names import Arrangement, tensor_name
from tests.golden.tiny_models import CASES, case_weights

GOLDEN = Path(__file__).parent / "golden"
TRANSFORMERS_LATENT_NORM_EPS = 1e-6


@dataclass
class ListState:
    """A sequence's cache without pages: one growing tensor for every kind and layer."""

    rows_of: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def write(self, kind: str, layer: int, rows_TX: Tensor, first_position: int) -> None:
        before = self.rows_of.get((kind, layer), rows_TX[:0])[:first_position]
        assert before.shape[0] == first_position, "a gap in the cache"
        self.rows_of[kind, layer] = torch.cat([before, rows_TX])

    def rows(self, kind: str, layer: int, num_positions: int) -> CachedRows:
        return CachedRows(self.rows_of[kind, layer], torch.arange(num_positions))


@dataclass
class Recording:
    """A step trace that keeps what was chosen, joined over chunks."""

    positions: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    expert_ids: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def selection(self, layer: int, span: int, positions_TK: Tensor) -> Tensor:
        self.positions[layer].append(positions_TK)
        return positions_TK

    def experts(self, layer: int, expert_ids_TA: Tensor) -> Tensor:
        self.expert_ids[layer].append(expert_ids_TA)
        return expert_ids_TA

    def sets(self, layer: int) -> list[set[int]]:
        """The selected positions of every token, in order."""
        return [set(row.tolist()) - {-1} for part in self.positions[layer] for row in part]

    def chosen_experts(self, layer: int) -> np.ndarray:
        """Sorted expert ids of every token."""
        return torch.cat(self.expert_ids[layer]).sort(-1).values.numpy()


class ArrayStore:
    """Parameters out of arrays in the Hugging Face layout."""

    def __init__(self, config: ModelConfig, arrays: Mapping[str, np.ndarray], dtype: torch.dtype) -> None:
        self.device = torch.device("cpu")
        self._config = config
        self._arrays = arrays
        self._dtype = dtype

    def tensor(self, name: str) -> Tensor:
        pattern, arrangement = tensor_name(name, "safetensors")
        shape = next(need.shape for need in parameter_needs(self._config) if need.name == name)
        if arrangement is Arrangement.PER_EXPERT:
            stack = [self._arrays[pattern.replace("{expert}", str(expert))] for expert in range(shape[0])]
            return torch.from_numpy(np.stack(stack)).to(self._dtype)
        tensor = torch.from_numpy(self._arrays[pattern]).to(self._dtype)
        if arrangement is Arrangement.KEY_ROWS:
            return tensor.view(shape[0], -1, shape[2])[:, : shape[1]].contiguous()
        if arrangement is Arrangement.VALUE_ROWS:
            return tensor.view(shape[0], -1, shape[2])[:, -shape[1] :].contiguous()
        return tensor

    def matrix(self, name: str) -> Tensor:
        return self.tensor(name)

    def up_projections(self, prefix: str) -> MlaUpProjections:
        return MlaUpProjections(self.tensor(f"{prefix}key"), self.tensor(f"{prefix}value"))

    def experts(self, prefix: str) -> ResidentExperts:
        gate, up, down = (self.tensor(f"{prefix}{name}_proj.weight") for name in ("gate", "up", "down"))
        return ResidentExperts(gate, up, down)


def golden_config(case: str, **changes: Any) -> ModelConfig:
    """Our reading of a case's config, with the latent-norm eps that transformers builds in."""
    config = read_huggingface_config({**CASES[case], **changes}).config
    return with_latent_norm_eps(config, TRANSFORMERS_LATENT_NORM_EPS)


def with_latent_norm_eps(config: ModelConfig, eps: float) -> ModelConfig:
    if isinstance(config.attention, MlaConfig):
        return replace(config, attention=replace(config.attention, latent_norm_eps=eps))
    return config


def golden_model(
    case: str, *, dtype: torch.dtype = torch.float32, policy: AttentionPolicy | None = None, **changes: Any
) -> Transformer:
    config = golden_config(case, **changes)
    store = ArrayStore(config, case_weights(case), dtype)
    return build_model(config, store, ReferenceKernels(), RunChoices("f32", policy))


def run_alone(
    model: Transformer, token_ids: list[int], *, chunk: int = 10**9, trace: StepTrace | None = None
) -> Tensor:
    """Hidden rows of one sequence, chunk after chunk."""
    state = ListState()
    hidden = []
    with torch.inference_mode():
        for start in range(0, len(token_ids), chunk):
            piece = SequenceChunk(token_ids[start : start + chunk], start, state)
            hidden.append(model.forward([piece], trace=trace))
    return torch.cat(hidden)


def logits_of(model: Transformer, token_ids: list[int], *, chunk: int = 10**9) -> Tensor:
    """Logits of every row of one sequence."""
    with torch.inference_mode():
        return model.logits(run_alone(model, token_ids, chunk=chunk))
