from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import CapacityError, ContextLengthError, UsageError
from longlens.machine import Gpu, Machine
from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.plan.budget import LEAST_SAFETY_BYTES
from longlens.plan.packed import native_weights, packed_in_file_type
from longlens.plan.planner import Wishes, check_runs, longest_that_fits, make_plan
from longlens.plan.presets import MODEL_PRESETS
from longlens.units import GIB
from tests.golden.tiny_models import CASES

MACHINE = Machine(
    cpu_name="a processor",
    num_physical_cores=2,
    num_logical_cores=4,
    cpu_quota=None,
    instruction_sets=(),
    memory_total_bytes=24 * GIB,
    memory_available_bytes=20 * GIB,
)


def tiny() -> ModelConfig:
    return read_huggingface_config(CASES["glm_topk8"]).config


def test_bytes_of_cache_and_index_keys_follow_the_spec() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes(context=100, cache_element="bf16"))
    layers, full = 8, 4
    assert plan.kv_bytes_per_token == (layers * (40 + 16) + full * 32) * 2
    assert plan.kv_bytes == 128 * plan.kv_bytes_per_token, "two pages of 64 tokens"
    assert plan.index_bytes == 128 * full * 32 * 2


def test_parts_sum_to_the_tier() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes())
    assert plan.tiers == {"ram": plan.total_bytes}
    assert plan.total_bytes == plan.weights_bytes + plan.kv_bytes + plan.scratch_bytes + plan.runtime_bytes
    assert plan.total_bytes == sum(component.num_bytes for component in plan.components)
    assert plan.fits


def test_sixteen_threads_on_two_cores_become_two() -> None:
    assert make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes(num_threads=16)).num_threads == 2


def test_a_context_beyond_the_models_is_refused_with_the_longest() -> None:
    with pytest.raises(ContextLengthError, match="--context 4096 is the longest"):
        make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes(context=4097))


def test_what_does_not_fit_is_refused_with_a_context_that_does() -> None:
    config = tiny()
    needed = make_plan(config, "tiny", MACHINE, "cpu", Wishes(context=4096))
    tight = replace(MACHINE, memory_available_bytes=needed.total_bytes + needed.safety_bytes - 1)
    with pytest.raises(CapacityError, match=r"the plan needs .* are free") as caught:
        make_plan(config, "tiny", tight, "cpu", Wishes(context=4096))
    fitting = int(caught.value.mend.split()[1])
    assert make_plan(config, "tiny", tight, "cpu", Wishes(context=fitting)).fits


def test_without_a_wish_the_context_shrinks_to_what_fits() -> None:
    whole = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes())
    tight = replace(MACHINE, memory_available_bytes=whole.total_bytes + whole.safety_bytes - 1)
    assert whole.context == 4096
    assert 0 < make_plan(tiny(), "tiny", tight, "cpu", Wishes()).context < 4096


def test_too_little_for_the_weights_is_said_as_such() -> None:
    with pytest.raises(CapacityError, match="smaller model"):
        make_plan(tiny(), "tiny", replace(MACHINE, memory_available_bytes=LEAST_SAFETY_BYTES), "cpu", Wishes(context=1))


def test_big_weights_are_kept_in_bf16_and_small_ones_in_fp32() -> None:
    assert make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes()).compute_element == "f32"
    little = replace(MACHINE, memory_total_bytes=2**20)
    assert make_plan(tiny(), "tiny", little, "cpu", Wishes()).compute_element == "bf16"


def test_memory_of_the_gpu_counts_for_a_gpu() -> None:
    gpu = Gpu("id", "a card", (9, 0), 80 * GIB, 79 * GIB)
    plan = make_plan(tiny(), "tiny", replace(MACHINE, gpus=(gpu,)), "cuda:0", Wishes())
    assert set(plan.tiers) == {"gpu"}
    with pytest.raises(CapacityError, match="no GPU number 1"):
        make_plan(tiny(), "tiny", replace(MACHINE, gpus=(gpu,)), "cuda:1", Wishes())


@pytest.mark.parametrize("wish", [{"context": 0}, {"num_threads": -1}, {"compute_element": "q4"}])
def test_wishes_that_mean_nothing_are_refused_by_name(wish: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wish))):
        Wishes(**wish)  # type: ignore[arg-type]


@given(shorter=st.integers(1, 4096), longer=st.integers(1, 4096))
def test_more_context_never_needs_fewer_bytes(shorter: int, longer: int) -> None:
    shorter, longer = sorted((shorter, longer))
    plans = [make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes(context=context)) for context in (shorter, longer)]
    assert plans[0].total_bytes <= plans[1].total_bytes


def test_a_chunk_is_a_power_of_two_and_shrinks_with_the_models_size() -> None:
    small = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes()).chunk_tokens
    wide = replace(tiny(), intermediate_size=10**6)
    large = make_plan(wide, "wide", MACHINE, "cpu", Wishes()).chunk_tokens
    assert large < small == 4096
    assert large & (large - 1) == 0


def test_what_is_not_built_is_planned_and_refused_with_what_runs() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes(cache_element="fp8"))
    assert plan.not_built
    assert not plan.runs
    with pytest.raises(UsageError, match="cannot run yet") as caught:
        check_runs(plan)
    assert "bf16" in caught.value.mend


def test_what_is_built_is_let_through() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes())
    check_runs(plan)
    assert plan.runs


def test_a_limit_of_the_control_group_is_what_counts() -> None:
    grouped = replace(MACHINE, memory_total_bytes=GIB, memory_available_bytes=100 * 2**20)
    assert make_plan(tiny(), "tiny", grouped, "cpu", Wishes()).total_bytes < 100 * 2**20


def test_a_driver_that_cannot_be_asked_is_named_when_its_device_is_wanted() -> None:
    broken = replace(MACHINE, gpu_fault="nvidia-smi could not be read: timed out")
    with pytest.raises(CapacityError, match="timed out"):
        make_plan(tiny(), "tiny", broken, "cuda:0", Wishes())


@given(limit=st.integers(0, 5000), longest=st.integers(1, 5000))
def test_the_longest_context_that_fits_is_found_in_whole_pages(limit: int, longest: int) -> None:
    found = longest_that_fits(longest, lambda context: context <= limit)
    assert found == (longest if longest <= limit else limit // 64 * 64)


def test_packed_weights_are_counted_as_they_lie_in_the_file_and_the_rest_as_it_is_expanded() -> None:
    pocket = MODEL_PRESETS["pocket"].config
    packed = packed_in_file_type(pocket, "q8_0")
    native = make_plan(pocket, "pocket", MACHINE, "cpu", Wishes(context=1024), packed)
    plain = make_plan(pocket, "pocket", MACHINE, "cpu", Wishes(context=1024))
    assert (native.kernels, native.weights_form, native.file_type) == ("native", "packed", "as stored")
    assert (plain.kernels, plain.weights_form, plain.file_type) == ("plain", "expanded", None)
    assert native.runs
    assert native.weights_bytes == sum(native_weights(pocket, packed, "f32").class_bytes.values())
    assert native.weights_bytes < plain.weights_bytes / 3
    assert sum(component.num_bytes for component in native.components) == native.total_bytes


def test_what_stays_packed_does_not_count_where_the_element_type_is_chosen() -> None:
    pocket = MODEL_PRESETS["pocket"].config
    little = replace(MACHINE, memory_total_bytes=160 * 2**20)
    packed = packed_in_file_type(pocket, "q8_0")
    assert make_plan(pocket, "pocket", little, "cpu", Wishes(context=64)).compute_element == "bf16"
    native = make_plan(pocket, "pocket", little, "cpu", Wishes(context=64), packed)
    assert native.compute_element == "f32"
    assert native.cache_format == "bf16"


@given(shorter=st.integers(1, 131_072), longer=st.integers(1, 131_072))
def test_more_context_never_takes_fewer_bytes_with_packed_weights(shorter: int, longer: int) -> None:
    pocket = MODEL_PRESETS["pocket"].config
    packed = packed_in_file_type(pocket, "q8_0")
    plans = [
        make_plan(pocket, "pocket", MACHINE, "cpu", Wishes(context=context), packed)
        for context in sorted((shorter, longer))
    ]
    assert plans[0].total_bytes <= plans[1].total_bytes
