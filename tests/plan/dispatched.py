"""What torch really dispatches in a step, to be compared with what the plan counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longlens.cache.pages import PagePool
from longlens.cache.sequence_cache import SequenceCache
from longlens.engine.step import StepPart, run_step
from longlens.kernels.interface import ExpertBank, MlaUpProjections
from longlens.kernels.reference import ReferenceKernels
from longlens.model.build import RunChoices, build_model
from longlens.model.config import ModelConfig
from longlens.model.needs import parameter_needs
from longlens.model.state import CacheElement
from longlens.model.transformer import Transformer
from longlens.weights.expert_store import ResidentExperts

_PRODUCTS = ("aten.linear", "aten.matmul", "aten.bmm")


class Watch(TorchDispatchMode):
    """Counts dispatched operations, and the FLOPs of matrix products among them."""

    def __init__(self) -> None:
        super().__init__()
        self.num_operations = 0
        self.product_flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        self.num_operations += 1
        if name.startswith(_PRODUCTS):
            self.product_flops += 2 * out.numel() * args[0].shape[-1]
        elif name.startswith("aten.einsum"):
            self.product_flops += 2 * out.numel() * args[1][0].shape[-1]
        return out


class RandomStore:
    """Every parameter of a model, drawn from a seed."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        self.device = torch.device("cpu")
        self._dtype = dtype
        self._needs = {need.name: need for need in parameter_needs(config)}
        self._generator = torch.Generator().manual_seed(0)

    def tensor(self, name: str) -> torch.Tensor:
        need = self._needs[name]
        drawn = torch.randn(need.shape, generator=self._generator) * need.shape[-1] ** -0.5
        return drawn if need.precision == "fp32" else drawn.to(self._dtype)

    def matrix(self, name: str) -> torch.Tensor:
        return self.tensor(name)

    def up_projections(self, prefix: str) -> MlaUpProjections:
        return MlaUpProjections(self.tensor(f"{prefix}key"), self.tensor(f"{prefix}value"))

    def experts(self, prefix: str) -> ExpertBank:
        return ResidentExperts(*(self.tensor(f"{prefix}{name}_proj.weight") for name in ("gate", "up", "down")))


def random_model(config: ModelConfig, dtype: torch.dtype, cache_element: CacheElement) -> Transformer:
    return build_model(config, RandomStore(config, dtype), ReferenceKernels(), RunChoices(cache_element))


def watch_steps(model: Transformer, steps: Sequence[int]) -> Watch:
    """Run steps of so many tokens one after the other, and watch the last one, with its logits."""
    total = sum(steps)
    pool = PagePool(model.cache_spec, -(-total // model.cache_spec.page_tokens), "cpu")
    token_ids = torch.randint(model.vocab_size, (total,), generator=torch.Generator().manual_seed(1)).tolist()
    cache = SequenceCache(pool)
    for num_tokens in steps[:-1]:
        run_step(model, [StepPart(cache, token_ids[cache.length : cache.length + num_tokens], "none")])
    watch = Watch()
    with watch:
        run_step(model, [StepPart(cache, token_ids[cache.length :], "last")])
    return watch
