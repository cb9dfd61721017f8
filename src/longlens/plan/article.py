"""What an article on GLM-5.2 says about a "GLM-5.2-64B", beside what its own geometry gives.

No such checkpoint exists; the preset `glm-5.2-64b` has the geometry behind the article's tables. Its exact figures
for the time to the first token could not be found in a stored copy, so they are given as not available.

Source: https://open-techstack.com/blog/glm-5-2-open-weights-1m-context-indexshare/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from longlens.model.config import ModelConfig
from longlens.model.needs import num_parameters
from longlens.plan.cache_formats import CacheFormat, cache_formats
from longlens.plan.compute_limit import compute_limit_seconds, highest_rate
from longlens.plan.file_types import stored_bytes
from longlens.plan.hardware import HARDWARE
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.sharing_ratio import MILLION_TOKENS, RATIO_DEFINITIONS, sharing_ratio, whole_ratio
from longlens.plan.table import Column, Table, format_seconds, format_tokens
from longlens.units import GIB

ARTICLE = "https://open-techstack.com/blog/glm-5-2-open-weights-1m-context-indexshare/"
ARTICLE_MODEL, REAL_MODEL = "glm-5.2-64b", "glm-5.2"
Topic = Literal["flops", "kv", "hardware", "ttft"]
NOT_AVAILABLE = "not available"
_GB = 10**9
_TTFT_CONTEXTS = (131_072, 524_288, MILLION_TOKENS)
_TTFT_HARDWARE = ("rtx-4090", "rtx-4090-x2", "h100-x8")


@dataclass(frozen=True)
class Claim:
    """A sentence of the article, our figure, and why they differ.

    Attributes:
        topic: the table that it belongs to.
        said: what the article says.
        derived: what the geometry gives.
        reason: one line.
    """

    topic: Topic
    said: str
    derived: str
    reason: str


def article_claims() -> tuple[Claim, ...]:
    """Every claim, in the order of the tables."""
    config, real = MODEL_PRESETS[ARTICLE_MODEL].config, MODEL_PRESETS[REAL_MODEL].config
    return (
        _flops_claim(config, real),
        _saving_claim(config),
        _cache_claim(config, real),
        _fit_claim(config, "24 GB", 24 * GIB, "q4_k_m"),
        _fit_claim(config, "48 GB", 48 * GIB, "q8_0"),
        *_ttft_claims(config),
    )


def article_table() -> Table:
    """The claims as a table."""
    claims = article_claims()
    size = num_parameters(MODEL_PRESETS[REAL_MODEL].config) / 1e9
    return Table(
        "article",
        f'Claims about a "GLM-5.2-64B" ({ARTICLE}) beside what its geometry gives',
        (Column("topic"), Column("the article says"), Column("derived"), Column("why")),
        tuple((claim.topic, claim.said, claim.derived, claim.reason) for claim in claims),
        (
            f"no such checkpoint exists: GLM-5.2 has {size:.0f} B parameters, its MTP layer included",
            f"the geometry is that of the preset {ARTICLE_MODEL}; GB are 10^9 bytes",
        ),
    )


def article_notes(topic: str) -> tuple[str, ...]:
    """The claims of one topic as lines below the table that they belong to."""
    return tuple(
        f"an article says {claim.said}; derived: {claim.derived}: {claim.reason}"
        for claim in article_claims()
        if claim.topic == topic
    )


def _flops_claim(config: ModelConfig, real: ModelConfig) -> Claim:
    ratios = {definition.name: sharing_ratio(real, definition) for definition in RATIO_DEFINITIONS}
    nearest = "weights without the head, no core"
    quarter = "everything, absorbed core, a quarter of the layers"
    return Claim(
        "flops",
        "2.9x fewer FLOPs a token at 1M",
        f"{whole_ratio(real):.2f}x for GLM-5.2, {whole_ratio(config):.2f}x for this geometry, everything counted",
        "it is z.ai's figure for GLM-5.2 against DSA with an indexer on every layer, not against dense attention: "
        f"{ratios[nearest]:.2f}x with attention's core and the output head left out, or {ratios[quarter]:.2f}x if a "
        f"quarter of the layers had an indexer ({_owners(real)} have)",
    )


def _owners(config: ModelConfig) -> str:
    full = 0 if config.indexer is None else len(config.indexer.full_layers)
    return f"{full} of {config.num_hidden_layers}"


def _saving_claim(config: ModelConfig) -> Claim:
    by_name = {item.name: item for item in cache_formats(config)}
    ours = by_name["bf16"]

    def saved(than: str, of: CacheFormat = ours) -> str:
        return f"{1 - of.bytes_per_token / by_name[than].bytes_per_token:.1%}"

    scaled = by_name["fp8_ds_mla, fp8 index keys"]
    sharing = f"{saved('bf16, index keys on all layers')} by IndexShare"
    operations = f"{1 - 1 / whole_ratio(config):.1%}"
    return Claim(
        "kv",
        "62 % of the KV cache saved",
        f"{saved('GQA 8x128, bf16')} against GQA 8x128, {sharing}, {saved('bf16', scaled)} by fp8_ds_mla rows",
        "it does not say against what, and no layout named here gives 62 % of the bytes; IndexShare saves index keys "
        f"only, and {operations} of the operations of a token at 1M",
    )


def _cache_claim(config: ModelConfig, real: ModelConfig) -> Claim:
    ours, other = (next(f for f in cache_formats(c) if f.name == "bf16") for c in (config, real))
    return Claim(
        "kv",
        "32 GB of KV at 1M",
        f"{ours.bytes_at(10**6) / _GB:.1f} GB for 10^6 tokens, {ours.bytes_at(MILLION_TOKENS) / _GB:.1f} GB for 2^20",
        f"right for this geometry in bf16 ({ours.bytes_per_token:,} B a token, index keys on {_owners(config)} "
        f"layers); GLM-5.2 takes {other.bytes_per_token:,} B, {other.bytes_at(10**6) / _GB:.1f} GB",
    )


def _fit_claim(config: ModelConfig, memory: str, memory_bytes: int, file_type: str) -> Claim:
    classes = stored_bytes(config, file_type)
    total, experts = sum(classes.values()), classes["experts"]
    parameters = f"{num_parameters(config) / 1e9:.1f} B parameters"
    over = total - memory_bytes
    name = file_type.upper()
    if over <= 0:
        return Claim("hardware", f"{memory} and {name}", f"{total / _GB:.1f} GB of weights", "they fit")
    return Claim(
        "hardware",
        f"{memory} and {name}",
        f"{total / _GB:.1f} GB of weights in {memory_bytes / _GB:.1f} GB",
        f"{parameters} do not fit: at least {over / experts:.0%} of the experts' {experts / _GB:.1f} GB must move to "
        "RAM even with no context at all",
    )


def _ttft_claims(config: ModelConfig) -> Iterator[Claim]:
    for context in _TTFT_CONTEXTS:
        limits = []
        for name in _TTFT_HARDWARE:
            seconds = compute_limit_seconds(config, HARDWARE[name], context)
            if seconds is not None:
                limits.append(f"{format_seconds(seconds)} on {HARDWARE[name].title}")
        peaks = HARDWARE[_TTFT_HARDWARE[0]].peaks
        rate = "" if peaks is None else f" ({highest_rate(peaks) / 1e12:.0f} T a second on the first)"
        yield Claim(
            "ttft",
            f"TTFT at {format_tokens(context)}: {NOT_AVAILABLE}",
            "cold, no less than " + ", ".join(limits),
            f"operations over the published peak{rate}: what is shorter is not a cold reading, but one from a cache",
        )
