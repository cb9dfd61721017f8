"""The geometries that random weights can be built in: every preset of the plan, and `mid` for the benchmarks."""

from __future__ import annotations

from difflib import get_close_matches

from longlens.errors import CapacityError, UsageError
from longlens.machine import Machine
from longlens.model.config import IndexerConfig, MlaConfig, ModelConfig, MoeConfig, RopeConfig
from longlens.model.schedule import full_layers_of_frequency
from longlens.plan.planner import Wishes, make_plan
from longlens.plan.presets import MODEL_PRESETS, ModelPreset, find_preset

_MID_LAYERS, _MID_DENSE = 12, 3
_NOPE, _ROPE = 192, 64

# GLM-5.2's heads, latent, indexer and schedule, on a body that two cores can run; llama.cpp opens it too.
MID = ModelPreset(
    name="mid",
    title="mid, a small model of GLM-5.2's shape",
    config=ModelConfig(
        architecture="glm_moe_dsa",
        vocab_size=16_384,
        hidden_size=1024,
        intermediate_size=1536,
        num_hidden_layers=_MID_LAYERS,
        num_nextn_predict_layers=0,
        rms_norm_eps=1e-5,
        max_position_embeddings=1_048_576,
        tie_word_embeddings=False,
        rope=RopeConfig(8e6, _ROPE, is_interleaved=True),
        attention=MlaConfig(
            num_attention_heads=16,
            q_lora_rank=512,
            kv_lora_rank=512,
            qk_nope_head_dim=_NOPE,
            qk_rope_head_dim=_ROPE,
            v_head_dim=256,
            latent_norm_eps=1e-5,
            softmax_scale=(_NOPE + _ROPE) ** -0.5,
        ),
        indexer=IndexerConfig(
            index_n_heads=32,
            index_head_dim=128,
            index_topk=2048,
            is_rope_interleaved=True,
            is_full=full_layers_of_frequency(_MID_LAYERS, 4, 3),
        ),
        moe=MoeConfig(
            n_routed_experts=48,
            num_experts_per_tok=4,
            n_shared_experts=1,
            moe_intermediate_size=512,
            n_group=1,
            topk_group=1,
            norm_topk_prob=True,
            routed_scaling_factor=2.5,
            is_sparse=tuple(layer >= _MID_DENSE for layer in range(_MID_LAYERS)),
        ),
    ),
    source="own geometry",
    note="no such checkpoint exists: it is for benchmarks",
)


def synthetic_preset(name: str) -> ModelPreset:
    """Find the geometry that `--synthetic` names.

    Raises:
        UsageError: there is none; the nearest name is given.
    """
    preset = MID if name.strip().lower() == MID.name else find_preset(name)
    if preset is None:
        known = (MID.name, *MODEL_PRESETS)
        close = get_close_matches(name.lower(), known, n=1)
        mend = f"did you mean {close[0]}?" if close else f"choose {', '.join(known)}"
        raise UsageError(f"there is no preset {name!r}", mend)
    return preset


def check_fits(preset: ModelPreset, machine: Machine, device: str, wishes: Wishes) -> None:
    """Refuse a geometry that this machine cannot run, before a weight is made.

    Raises:
        CapacityError, ContextLengthError: as the plan finds.
    """
    plan = make_plan(preset.config, preset.name, machine, device, wishes)
    if not plan.fits:
        raise CapacityError(f"{preset.name} does not fit this machine", f"see what would: longlens plan {preset.name}")
