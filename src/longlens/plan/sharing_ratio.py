"""How many times IndexShare lowers a token's arithmetic: the same sentence, under every definition it may have.

z.ai gives one figure, 2.9 a token at a context of 1M, and no formula. Each definition below is the quotient of a model
with an indexer on every layer by one that shares it, and differs in what is counted.

Source: https://z.ai/blog/glm-5.2 for the figure; arXiv 2603.12201 (IndexCache) for the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longlens.errors import UsageError
from longlens.model.config import ModelConfig
from longlens.plan.flops import (
    AttentionForm,
    flops_per_token,
    head_flops,
    linear_flops,
    scoring_flops_per_row,
)

MILLION_TOKENS = 1_048_576
PUBLISHED_RATIO = 2.9
# What the series' label says: "744B-A40B".
NOMINAL_ACTIVE_WEIGHTS = 40_000_000_000


@dataclass(frozen=True)
class RatioDefinition:
    """What is counted on both sides of the quotient.

    Attributes:
        name: for people.
        weights: "all" active matrices, those "without_head", the label's "nominal" 40 B, or "none".
        core: form in which core attention is counted; None leaves it out.
        full_layers: "real" takes the model's schedule, "quarter" a fourth of all layers.
        is_prefill_mean: averaged over a prompt of this length, not at its last position.
    """

    name: str
    weights: Literal["all", "without_head", "nominal", "none"]
    core: AttentionForm | None
    full_layers: Literal["real", "quarter"] = "real"
    is_prefill_mean: bool = False


RATIO_DEFINITIONS: tuple[RatioDefinition, ...] = (
    RatioDefinition("everything, absorbed core", "all", "absorbed"),
    RatioDefinition("everything, expanded core", "all", "expanded"),
    RatioDefinition("weights without the head, expanded core", "without_head", "expanded"),
    RatioDefinition("weights without the head, no core", "without_head", None),
    RatioDefinition("nominal 40 B weights, no core", "nominal", None),
    RatioDefinition("everything, absorbed core, a quarter of the layers", "all", "absorbed", "quarter"),
    RatioDefinition("everything, expanded core, a quarter of the layers", "all", "expanded", "quarter"),
    RatioDefinition("attention only, absorbed core", "none", "absorbed"),
    RatioDefinition("scoring only", "none", None),
    RatioDefinition("mean over a whole prefill, expanded core", "all", "expanded", "real", is_prefill_mean=True),
)


def sharing_ratio(config: ModelConfig, definition: RatioDefinition, context: int = MILLION_TOKENS) -> float:
    """Divide a token's arithmetic with an indexer on every layer by that with a shared one.

    The matrices are the shared model's on both sides and scoring is its dot products, so that the quotient shows the
    sharing alone; `whole_ratio` counts the extra indexers' matrices and the sum over heads as well.

    Raises:
        UsageError: the model has no indexer.
    """
    if config.indexer is None:
        raise UsageError("the model has no indexer that could be shared", "choose a glm_moe_dsa model")
    layers, full = config.num_hidden_layers, float(len(config.indexer.full_layers))
    if definition.full_layers == "quarter":
        full = layers / 4
    rows = context / 2 if definition.is_prefill_mean else context
    fixed = float(_weights_flops(config, definition))
    if definition.core is not None:
        fixed += flops_per_token(config, context - 1, attention="index_share", form=definition.core).attention
    scoring = rows * scoring_flops_per_row(config.indexer, has_head_sum=False)
    return (fixed + layers * scoring) / (fixed + full * scoring)


def whole_ratio(config: ModelConfig, context: int = MILLION_TOKENS, *, form: AttentionForm = "absorbed") -> float:
    """The same quotient with everything counted, as in the table of operations.

    Raises:
        UsageError: the model has no indexer.
    """
    every = flops_per_token(config, context - 1, attention="dsa_every_layer", form=form).total
    return every / flops_per_token(config, context - 1, attention="index_share", form=form).total


def _weights_flops(config: ModelConfig, definition: RatioDefinition) -> int:
    if definition.weights == "none":
        return 0
    if definition.weights == "nominal":
        return 2 * NOMINAL_ACTIVE_WEIGHTS
    whole = linear_flops(config, attention="index_share")
    return whole - head_flops(config) if definition.weights == "without_head" else whole
