"""A small model of GLM-5.2's shape whose rows are whole blocks of every quantisation."""

from __future__ import annotations

from longlens.model.config import IndexerConfig, MlaConfig, ModelConfig, MoeConfig, RopeConfig

SMALL = ModelConfig(
    architecture="glm_moe_dsa",
    vocab_size=320,
    hidden_size=256,
    intermediate_size=256,
    num_hidden_layers=3,
    num_nextn_predict_layers=0,
    rms_norm_eps=1e-5,
    max_position_embeddings=65_536,
    tie_word_embeddings=False,
    rope=RopeConfig(1e6, 64, is_interleaved=True),
    attention=MlaConfig(
        num_attention_heads=2,
        q_lora_rank=256,
        kv_lora_rank=256,
        qk_nope_head_dim=192,
        qk_rope_head_dim=64,
        v_head_dim=256,
        latent_norm_eps=1e-5,
        softmax_scale=256**-0.5,
    ),
    indexer=IndexerConfig(
        index_n_heads=2, index_head_dim=64, index_topk=16, is_rope_interleaved=True, is_full=(True, False, True)
    ),
    moe=MoeConfig(
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=256,
        n_group=1,
        topk_group=1,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        is_sparse=(False, True, True),
    ),
)
