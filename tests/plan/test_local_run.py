from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.plan.file_types import stored_bytes
from longlens.plan.hardware import HARDWARE, THIS_MACHINE
from longlens.plan.local_run import fit_on, local_run, waiting_on
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.profile import profile_of_hardware

GLM, ARTICLE, SMOL, POCKET = (MODEL_PRESETS[name] for name in ("glm-5.2", "glm-5.2-64b", "smollm2-135m", "pocket"))


def test_a_cell_of_the_matrix_is_the_plan() -> None:
    found = fit_on(ARTICLE, HARDWARE["rtx-4090"], "q4_k_m", 131_072)
    weights = sum(stored_bytes(ARTICLE.config, "q4_k_m").values())
    assert found.fits
    assert found.gpu_bytes + found.ram_bytes > weights + 131_072 * 32_000
    assert found.disk_bytes == 0
    assert found.ram_bytes > weights - 24 * 2**30, "38 GB of weights do not lie in 24 GB"
    assert any("outside of the fastest tier" in reason for reason in found.not_built)


def test_a_plain_file_on_one_device_runs_today() -> None:
    assert fit_on(SMOL, HARDWARE["laptop-16"], "bf16", 8192).not_built == ()
    assert fit_on(SMOL, HARDWARE["rtx-4090-x2"], "bf16", 8192).not_built != ()


def test_the_longest_context_of_a_cell_fits_and_one_page_more_does_not() -> None:
    most = fit_on(GLM, HARDWARE["laptop-32"], "q4_k_m", 64).most_context
    assert 0 < most < GLM.config.max_position_embeddings
    assert fit_on(GLM, HARDWARE["laptop-32"], "q4_k_m", most).fits
    beyond = fit_on(GLM, HARDWARE["laptop-32"], "q4_k_m", most + 64)
    assert (beyond.fits, beyond.most_context, beyond.ram_bytes) == (False, most, 0)


def test_a_machine_that_holds_nothing_has_no_context() -> None:
    assert fit_on(GLM, HARDWARE["laptop-16"], "fp8", 64).most_context == 0


def test_waiting_is_predicted_for_the_file_of_a_usual_context() -> None:
    short, long = (waiting_on(GLM, HARDWARE["h200-x8"], context) for context in (8192, 1_048_576))
    assert short is not None
    assert long is not None
    assert short.file_type == long.file_type == "fp8"
    assert not short.has_weights_on_disk
    assert short.memory_s < short.cold_s < long.cold_s


def test_weights_on_disk_are_told_and_slow() -> None:
    slow, fast = (waiting_on(GLM, HARDWARE[name], 8192) for name in ("rtx-4090", "h200-x8"))
    assert slow is not None
    assert fast is not None
    assert slow.has_weights_on_disk
    assert slow.cold_s > 10 * fast.cold_s


def test_nothing_is_predicted_where_nothing_fits_or_no_peaks_are_known() -> None:
    assert waiting_on(GLM, HARDWARE["laptop-16"], 8192) is None
    assert waiting_on(GLM, HARDWARE["dgx-spark"], 131_072) is not None
    assert waiting_on(GLM, HARDWARE["dgx-spark"], 1_048_576) is None
    assert waiting_on(GLM, replace(HARDWARE["h200-x8"], peaks=None), 8192) is None


def test_advice_gets_times_from_the_profile_and_none_without() -> None:
    machine = HARDWARE["mac-studio-512"]
    known = local_run(GLM, machine, profile_of_hardware(machine), 131_072)
    unknown = local_run(GLM, machine, None, 131_072)
    assert known.ttft_cold_s is not None
    assert known.decode_tokens_per_s is not None
    assert unknown.ttft_cold_s is unknown.decode_tokens_per_s is None
    assert "in GPU memory" in known.places


def test_what_cannot_run_yet_is_shown_and_what_can_is_started() -> None:
    waiting = local_run(GLM, HARDWARE["mac-studio-512"], None, 131_072)
    assert waiting.not_built
    assert waiting.command == "longlens plan glm-5.2 -c 131072 --hardware mac-studio-512"
    here = local_run(GLM, replace(HARDWARE["mac-studio-512"], name=THIS_MACHINE), None, 131_072)
    assert here.command == "longlens plan glm-5.2 -c 131072"
    runs = local_run(POCKET, HARDWARE["laptop-16"], None, 8192)
    assert runs.not_built == ()
    assert runs.command == 'longlens ask -m pocket -c 8192 . "QUESTION"'


def test_a_checkpoint_on_disk_is_named_by_its_path() -> None:
    found = replace(POCKET, name="pocket.gguf", source="models/pocket.gguf")
    assert "-m models/pocket.gguf " in local_run(found, HARDWARE["laptop-16"], None, 8192).command


def test_a_context_beyond_the_models_is_cut() -> None:
    assert local_run(SMOL, HARDWARE["laptop-16"], None, 131_072).context == 8192


def test_what_does_not_fit_says_why_and_what_would() -> None:
    run = local_run(GLM, HARDWARE["laptop-16"], None, 131_072)
    assert "needs" in run.fault
    assert "it fits --hardware" in run.fault
    assert run.command == run.places == ""


@pytest.mark.parametrize("users", [1, 4])
def test_users_take_a_sequence_each(users: int) -> None:
    # Each sequence of 8,192 tokens takes 180 MiB in bf16 on a card that holds them all.
    run = local_run(SMOL, HARDWARE["rtx-4090"], None, 8192, users)
    one = local_run(SMOL, HARDWARE["rtx-4090"], None, 8192)
    assert (run.places == one.places) is (users == 1)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["rtx-4090", "rtx-5090-x4", "mac-studio-512", "epyc-12ch", "h200-x8", "laptop-32"]),
    st.sampled_from(["fp8", "q8_0", "q4_k_m"]),
    st.integers(64, 2**20),
    st.integers(0, 2**20),
)
def test_more_context_never_fits_better(name: str, kind: str, context: int, more: int) -> None:
    longest = GLM.config.max_position_embeddings
    near, far = (fit_on(GLM, HARDWARE[name], kind, min(size, longest)) for size in (context, context + more))
    assert near.most_context == far.most_context
    assert near.fits or not far.fits
    if near.fits:
        tiers = {tier.name: tier.free_bytes for tier in HARDWARE[name].tiers}
        for tier, used in (("gpu", near.gpu_bytes), ("ram", near.ram_bytes), ("disk", near.disk_bytes)):
            assert used <= tiers.get(tier, 0)
