from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.model.needs import parameter_needs
from longlens.plan.flops import (
    ATTENTION_KINDS,
    AttentionForm,
    AttentionKind,
    attention_kinds,
    flops_per_token,
    head_flops,
    linear_flops,
    num_indexers,
    own_attention,
    prefill_flops,
)
from longlens.plan.presets import MODEL_PRESETS

GLM = MODEL_PRESETS["glm-5.2"].config
SMOL = MODEL_PRESETS["smollm2-135m"].config
PETA = 1e15

# Reference figures of GLM-5.2, in GFLOP, as printed: dense MLA absorbed (expanded), DSA on every layer, IndexShare.
TABLE = [
    (8192, "169.2", "122.1", "109.2", "104.3"),
    (32_768, None, None, "125.0", "108.5"),
    (65_536, "792.1", "415.2", "146.1", "114.2"),
    (131_072, None, None, "188.3", "125.6"),
    (200_000, None, None, "232.7", "137.5"),
    (262_144, "2927.8", "1420.2", "272.7", "148.3"),
    (524_288, None, None, "441.5", "193.7"),
    (1_048_576, "11470", "5440", "779.2", "284.6"),
]


def shown(flops: int, like: str) -> str:
    return f"{flops / 1e9:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize(("context", "dense", "expanded", "every", "shared"), TABLE)
def test_glm_5_2_costs_what_the_reference_prints(
    context: int, dense: str | None, expanded: str | None, every: str, shared: str
) -> None:
    sides: list[tuple[AttentionKind, AttentionForm, str | None]] = [
        ("dense_mla", "absorbed", dense),
        ("dense_mla", "expanded", expanded),
        ("dsa_every_layer", "absorbed", every),
        ("index_share", "absorbed", shared),
    ]
    for kind, form, printed in sides:
        if printed is not None:
            total = flops_per_token(GLM, context - 1, attention=kind, form=form).total
            assert shown(total, printed) == printed


@pytest.mark.parametrize(
    ("context", "every_over_shared", "dense_over_shared"),
    [
        (8192, "1.05", "1.62"),
        (32_768, "1.15", None),
        (65_536, "1.28", "6.94"),
        (131_072, "1.50", None),
        (200_000, "1.69", None),
        (262_144, "1.84", "19.7"),
        (524_288, "2.28", None),
        (1_048_576, "2.74", "40.3"),
    ],
)
def test_glm_5_2_has_the_quotients_of_the_reference(
    context: int, every_over_shared: str, dense_over_shared: str | None
) -> None:
    totals = {kind: flops_per_token(GLM, context - 1, attention=kind).total for kind in ATTENTION_KINDS}
    assert f"{totals['dsa_every_layer'] / totals['index_share']:.2f}" == every_over_shared
    if dense_over_shared is not None:
        digits = len(dense_over_shared.partition(".")[2])
        assert f"{totals['dense_mla'] / totals['index_share']:.{digits}f}" == dense_over_shared


def test_linear_operations_are_twice_the_active_weights() -> None:
    # 40,297,758,720 active weights with the head, from the released shapes.
    assert linear_flops(GLM) == 2 * 40_297_758_720
    assert linear_flops(GLM) - head_flops(GLM) == 2 * 39_346_176_000
    assert f"{linear_flops(GLM, attention='dsa_every_layer') / 1e9:.2f}" == "81.66"
    assert f"{linear_flops(GLM, attention='dense_mla') / 1e9:.2f}" == "80.20"


def test_core_attention_of_glm_5_2_stops_growing_at_top_k() -> None:
    for position in (2047, 2048, 1_048_575):
        found = flops_per_token(GLM, position)
        assert found.attention == 78 * 64 * 2176 * 2048
        assert flops_per_token(GLM, position, form="expanded").attention == 78 * 64 * 1024 * 2048
        assert found.indexer == 21 * (2 * 32 * 128 + 64) * (position + 1)
    assert flops_per_token(GLM, 2046).attention == 78 * 64 * 2176 * 2047


def test_the_compared_gqa_model_has_8_heads_of_128_and_the_same_matrices() -> None:
    found = flops_per_token(GLM, 999, attention="gqa")
    assert found.attention == 78 * 64 * 2 * (128 + 128) * 1000
    assert found.linear == linear_flops(GLM, attention="dense_mla")
    assert found.indexer == 0


def test_prefill_of_a_million_tokens_costs_what_the_reference_says() -> None:
    shared = prefill_flops(GLM, 2**20, form="expanded", has_every_logit=True)
    assert f"{shared.linear / PETA:.1f}" == "84.5"
    assert f"{shared.attention / PETA:.0f}" == "11"
    assert f"{shared.indexer / PETA:.0f}" == "95"
    every = prefill_flops(GLM, 2**20, attention="dsa_every_layer")
    assert f"{every.indexer / PETA:.0f}" == "354"


def test_a_prefill_runs_the_head_once() -> None:
    once, always = prefill_flops(GLM, 1000), prefill_flops(GLM, 1000, has_every_logit=True)
    assert always.linear - once.linear == 999 * head_flops(GLM)
    assert prefill_flops(GLM, 0).total == 0


def test_a_tied_head_is_multiplied_all_the_same() -> None:
    assert SMOL.tie_word_embeddings
    matrices = sum(need.num_elements for need in parameter_needs(SMOL) if len(need.shape) == 2)
    assert linear_flops(SMOL) == 2 * matrices, "the embedding stands for the head"


def test_a_grouped_query_model_is_counted_with_its_own_heads() -> None:
    assert own_attention(SMOL) == "gqa"
    assert attention_kinds(SMOL) == ("gqa",)
    assert flops_per_token(SMOL, 99).attention == 30 * 9 * 2 * (64 + 64) * 100


@pytest.mark.parametrize("name", ["glm-5", "glm-5.1", "deepseek-v3.2"])
def test_a_model_with_an_indexer_on_every_layer_shares_nothing(name: str) -> None:
    config = MODEL_PRESETS[name].config
    assert num_indexers(config, "index_share") == config.num_hidden_layers
    assert flops_per_token(config, 9999) == flops_per_token(config, 9999, attention="dsa_every_layer")


@pytest.mark.parametrize("kind", ["dense_mla", "dsa_every_layer", "index_share"])
def test_latent_attention_of_a_grouped_query_model_is_refused(kind: AttentionKind) -> None:
    with pytest.raises(UsageError, match="choose gqa"):
        flops_per_token(SMOL, 1, attention=kind)


def test_a_position_before_the_first_is_refused() -> None:
    with pytest.raises(UsageError, match="count from 0"):
        flops_per_token(GLM, -1)
    with pytest.raises(UsageError, match="neither may be negative"):
        prefill_flops(GLM, 1, first_position=-1)


MODELS = st.sampled_from(["glm-5.2", "glm-5.2-64b", "deepseek-v3.2", "smollm2-135m", "pocket"])
FORMS: st.SearchStrategy[AttentionForm] = st.sampled_from(["absorbed", "expanded"])


@settings(deadline=None, max_examples=40)
@given(name=MODELS, first=st.integers(0, 5000), count=st.integers(0, 60), form=FORMS, data=st.data())
def test_a_prefill_is_the_sum_of_its_tokens(
    name: str, first: int, count: int, form: AttentionForm, data: st.DataObject
) -> None:
    config = MODEL_PRESETS[name].config
    kind = data.draw(st.sampled_from(attention_kinds(config)))
    whole = prefill_flops(config, count, first_position=first, attention=kind, form=form, has_every_logit=True)
    tokens = [flops_per_token(config, first + n, attention=kind, form=form) for n in range(count)]
    assert whole.linear == sum(token.linear for token in tokens)
    assert whole.attention == sum(token.attention for token in tokens)
    assert whole.indexer == sum(token.indexer for token in tokens)


@settings(deadline=None, max_examples=60)
@given(name=MODELS, position=st.integers(0, 2**20), more=st.integers(0, 2**20), data=st.data())
def test_more_context_never_costs_less(name: str, position: int, more: int, data: st.DataObject) -> None:
    config = MODEL_PRESETS[name].config
    kind = data.draw(st.sampled_from(attention_kinds(config)))
    near, far = (flops_per_token(config, place, attention=kind) for place in (position, position + more))
    assert far.linear == near.linear
    assert far.attention >= near.attention
    assert far.indexer >= near.indexer


@settings(deadline=None, max_examples=60)
@given(position=st.integers(0, 2**20))
def test_sharing_never_costs_more_and_looking_at_all_never_less(position: int) -> None:
    totals = {kind: flops_per_token(GLM, position, attention=kind) for kind in ATTENTION_KINDS}
    assert totals["index_share"].total <= totals["dsa_every_layer"].total
    assert totals["index_share"].attention <= totals["dense_mla"].attention
    assert totals["gqa"].attention <= totals["dense_mla"].attention, "heads of 128 against 576 + 512"
