from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.errors import CapacityError, ContextLengthError, UsageError
from longlens.plan.file_types import stored_bytes
from longlens.plan.hardware import HARDWARE, hardware_of
from longlens.plan.hardware_records import Hardware, Tier
from longlens.plan.packed import packed_in_file_type
from longlens.plan.plan import Plan
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.proposal import AS_STORED, Proposal, longest_context, propose_plan
from longlens.units import GIB
from tests.plan.test_planner import MACHINE

GLM, ARTICLE = MODEL_PRESETS["glm-5.2"], MODEL_PRESETS["glm-5.2-64b"]
HERE = hardware_of(MACHINE, "cpu")


def plan(name: str = "glm-5.2", hardware: str = "h200-x8", **wishes: object) -> Plan:
    return propose_plan(MODEL_PRESETS[name].config, name, HARDWARE[hardware], Proposal(**wishes))  # type: ignore[arg-type]


def test_a_small_model_here_is_the_plan_that_runs() -> None:
    found = propose_plan(MODEL_PRESETS["smollm2-135m"].config, "smollm2-135m", HERE, Proposal(num_threads=2))
    assert found.runs
    assert found.weights_form == "expanded"
    assert found.moves == ()
    assert set(found.tiers) == {"ram"}


def test_every_model_on_every_machine_is_planned_or_refused_with_a_mend() -> None:
    mends = []
    for preset in MODEL_PRESETS.values():
        for hardware in HARDWARE.values():
            try:
                found = propose_plan(preset.config, preset.name, hardware, Proposal())
            except CapacityError as error:
                mends.append(error.mend)
                continue
            assert found.fits
            assert sum(found.tiers.values()) == found.total_bytes == sum(c.num_bytes for c in found.components)
    assert mends
    assert all(mends)


def test_the_widest_file_that_lies_in_memory_is_taken() -> None:
    assert plan(hardware="h200-x8").file_type == "fp8"
    assert plan(hardware="mac-studio-512").file_type == "q4_k_m"


def test_24_gb_and_48_gb_cards_hold_the_articles_model_only_with_experts_outside() -> None:
    for hardware, file_type in (("rtx-4090", "q4_k_m"), ("rtx-4090-x2", "q8_0")):
        found = plan("glm-5.2-64b", hardware, file_type=file_type, context=8192)
        assert "experts" in found.moves[0]
        assert found.not_built


def test_what_is_not_built_is_named_one_by_one() -> None:
    found = plan(hardware="rtx-4090-x8", cache_format="fp8", context=8192)
    text = "; ".join(found.not_built)
    for part in ("packed", "fp8", "outside of the fastest tier", "8 devices"):
        assert part in text
    assert not found.runs


def test_a_file_that_is_there_counts_with_its_own_bytes() -> None:
    small = Hardware("m", "a machine", (Tier("ram", 60 * GIB, 60 * GIB),), 1, None, "made up")
    stored = {"experts": 30 * GIB, "attention": 2 * GIB}
    found = propose_plan(ARTICLE.config, "a file", small, Proposal(context=8192, stored=stored))
    assert found.file_type == AS_STORED
    assert found.weights_bytes == 32 * GIB
    assert found.weights_form == "packed"


def test_what_fits_nowhere_names_the_nearest_context() -> None:
    card = replace(HARDWARE["rtx-pro-6000"], tiers=HARDWARE["rtx-pro-6000"].tiers[:1])
    with pytest.raises(CapacityError, match="needs") as caught:
        propose_plan(ARTICLE.config, "a", card, Proposal(file_type="fp8", context=1_048_576))
    fitting = int(caught.value.mend.split()[1])
    assert propose_plan(ARTICLE.config, "a", card, Proposal(file_type="fp8", context=fitting)).fits
    with pytest.raises(CapacityError):
        propose_plan(ARTICLE.config, "a", card, Proposal(file_type="fp8", context=fitting + 64))


def test_what_fits_nowhere_names_the_nearest_file_type() -> None:
    card = replace(HARDWARE["rtx-pro-6000"], tiers=HARDWARE["rtx-pro-6000"].tiers[:1])
    with pytest.raises(CapacityError) as caught:
        propose_plan(ARTICLE.config, "a", card, Proposal(file_type="f32", context=8192))
    assert caught.value.mend == "--quant fp8 fits"


def test_what_fits_nowhere_names_the_nearest_machine() -> None:
    with pytest.raises(CapacityError) as caught:
        propose_plan(GLM.config, "glm-5.2", HERE, Proposal())
    name = caught.value.mend.split()[3].rstrip(";")
    assert propose_plan(GLM.config, "glm-5.2", HARDWARE[name], Proposal(context=8192)).fits


def test_a_context_that_the_model_was_not_made_for_is_refused() -> None:
    with pytest.raises(ContextLengthError):
        plan("smollm2-135m", context=100_000)


def test_an_unknown_file_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="q3_k"):
        Proposal(file_type="q3_k")


def test_sequences_multiply_the_cache() -> None:
    assert plan(num_sequences=4, context=8192).kv_bytes == 4 * plan(context=8192).kv_bytes


def test_the_longest_context_is_the_last_that_fits() -> None:
    hardware, wish = HARDWARE["rtx-4090"], Proposal(file_type="q4_k_m")
    most = longest_context(ARTICLE.config, hardware, wish)
    assert propose_plan(ARTICLE.config, "a", hardware, replace(wish, context=most)).fits


@settings(max_examples=20)
@given(
    # an RTX 4090 holds no more than 586,944
    context=st.integers(1, 250_000),
    more=st.integers(0, 250_000),
    hardware=st.sampled_from(("h200-x8", "rtx-4090", "mac-studio-512", "epyc-12ch")),
)
def test_more_context_never_needs_fewer_bytes(context: int, more: int, hardware: str) -> None:
    plans = [plan("glm-5.2", hardware, file_type="q4_k_m", context=size) for size in (context, context + more)]
    assert plans[0].total_bytes <= plans[1].total_bytes


def test_a_quantised_file_runs_on_a_processor_that_has_the_c_kernels() -> None:
    wish = Proposal(context=4096, file_type="q8_0", has_native_kernels=True)
    native = propose_plan(ARTICLE.config, "a", HARDWARE["epyc-12ch"], wish)
    assert native.kernels == "native"
    assert native.weights_form == "packed"
    assert not any("packed" in reason for reason in native.not_built)
    without = propose_plan(ARTICLE.config, "a", HARDWARE["epyc-12ch"], replace(wish, has_native_kernels=False))
    assert any("packed" in reason for reason in without.not_built)
    on_a_gpu = propose_plan(ARTICLE.config, "a", HARDWARE["h200-x8"], wish)
    assert any("packed" in reason for reason in on_a_gpu.not_built)


def test_a_file_of_packed_types_is_planned_as_it_is_run() -> None:
    pocket = MODEL_PRESETS["pocket"].config
    packed = packed_in_file_type(pocket, "q8_0")
    wish = Proposal(context=4096, stored=stored_bytes(pocket, "q8_0"), packed=packed, has_native_kernels=True)
    assert propose_plan(pocket, "p", HARDWARE["epyc-12ch"], wish).file_type == "as stored"
    assert propose_plan(pocket, "p", HARDWARE["epyc-12ch"], replace(wish, has_native_kernels=False)).file_type is None
