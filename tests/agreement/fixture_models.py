"""The checkpoints of tests/fixtures, opened through the whole chain: files, configuration, catalog, weights, model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from longlens.formats.checkpoint import open_checkpoint
from longlens.kernels.reference import ReferenceKernels
from longlens.model.build import RunChoices, build_model
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.model.transformer import Transformer
from longlens.weights.catalog import Catalog, build_catalog
from longlens.weights.resident import ResidentWeights
from tests.golden_models import with_latent_norm_eps

FIXTURES = Path(__file__).parents[1] / "fixtures"

# Each fixture, and the one of tests/golden/quantised.npz that holds the same numbers.
RECORDED_AS = {
    "tiny-glm": "tiny-glm-F32",
    "tiny-glm-F32.gguf": "tiny-glm-F32",
    "tiny-glm-Q8_0-00001-of-00002.gguf": "tiny-glm-Q8_0",
    "tiny-glm-Q4_K_M.gguf": "tiny-glm-Q4_K_M",
    "wide-glm-Q6_K.gguf": "wide-glm-Q6_K",
    "wide-glm-Q4_K_M.gguf": "wide-glm-Q4_K_M",
    "tiny-deepseek-Q8_0.gguf": "tiny-deepseek-Q8_0",
    "tiny-llama-Q8_0.gguf": "tiny-llama-Q8_0",
}


@dataclass(frozen=True)
class FixtureModel:
    """A fixture that is ready to run, and what opening it had to say."""

    model: Transformer
    catalog: Catalog
    unknown_keys: tuple[str, ...]


def open_fixture(
    name: str,
    latent_norm_eps: float | None = None,
    *,
    kernels: ReferenceKernels | None = None,
    packed_types: frozenset[str] = frozenset(),
) -> FixtureModel:
    """Open a fixture in fp32; `latent_norm_eps` replaces the file's, as transformers does."""
    checkpoint = open_checkpoint(FIXTURES / name)
    reading = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors)
    config = reading.config
    if latent_norm_eps is not None:
        config = with_latent_norm_eps(config, latent_norm_eps)
    catalog = build_catalog(parameter_needs(config), checkpoint.tensors, checkpoint.layout)
    store = ResidentWeights(checkpoint, catalog, torch.device("cpu"), torch.float32, packed_types)
    model = build_model(config, store, kernels or ReferenceKernels(), RunChoices("f32"))
    return FixtureModel(model, catalog, reading.unknown_keys)
