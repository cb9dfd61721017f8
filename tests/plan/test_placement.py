from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.plan.budget import Budget, BudgetRequest, make_budget, safety_bytes
from longlens.plan.hardware_records import Hardware, Tier, TierName
from longlens.plan.placement import place
from longlens.plan.presets import MODEL_PRESETS
from longlens.units import GIB, TIB

GLM = MODEL_PRESETS["glm-5.2"].config
REQUEST = BudgetRequest(context=262_144, file_type="q4_k_m", gather_above_tokens=4096, device="cuda:0")


def machine(**tiers: int) -> Hardware:
    names: tuple[TierName, ...] = ("gpu", "ram", "disk")
    held = tuple(Tier(name, tiers[name], tiers[name]) for name in names if name in tiers)
    return Hardware("m", "a machine", held, 1, None, "made up")


def budget(**changes: object) -> Budget:
    return make_budget(GLM, replace(REQUEST, **changes), tier="gpu")  # type: ignore[arg-type]


def test_what_fits_stays_where_it_is() -> None:
    placed = place(GLM, budget(), machine(gpu=TIB, ram=TIB))
    assert placed.fits
    assert placed.moves == ()
    assert set(placed.budget.by_tier()) == {"gpu"}


def test_experts_of_the_last_layers_go_first() -> None:
    placed = place(GLM, budget(), machine(gpu=200 * GIB, ram=TIB))
    assert placed.fits
    assert len(placed.moves) == 1
    assert placed.moves[0].startswith("experts of layers ")
    assert "-77 (" in placed.moves[0]
    assert "200.0 GiB of GPU memory are too little" in placed.moves[0]
    used = placed.budget.by_tier()["gpu"]
    spare = safety_bytes(placed.budget.total_bytes)
    assert used + spare <= 200 * GIB
    assert used + spare > 190 * GIB, "no more layers move than have to"


def test_other_weights_follow_when_all_experts_have_gone() -> None:
    placed = place(GLM, budget(context=4096), machine(gpu=24 * GIB, ram=TIB))
    assert placed.fits
    assert [line.split()[0] for line in placed.moves] == ["experts", "other"]


def test_cached_rows_go_last_and_index_keys_stay() -> None:
    placed = place(GLM, budget(context=1_048_576), machine(gpu=64 * GIB, ram=TIB))
    assert placed.fits
    where = {component.name: component.tier for component in placed.budget.components}
    assert where["latents"] == "ram"
    assert where["index_keys"] == "gpu"
    assert where["attention"] == "gpu", "layers come back when the rows have made room"


def test_experts_go_on_to_disk_when_ram_is_too_small() -> None:
    placed = place(GLM, budget(context=4096), machine(gpu=24 * GIB, ram=128 * GIB, disk=2 * TIB))
    assert placed.fits
    tiers = placed.budget.by_tier()
    assert tiers["ram"] <= 128 * GIB
    assert {c.name for c in placed.budget.components if c.tier == "disk"} == {"experts"}
    assert "on disk" in placed.moves[-1]


def test_one_tier_of_memory_goes_to_disk_at_once() -> None:
    placed = place(GLM, make_budget(GLM, replace(REQUEST, context=4096), tier="ram"), machine(ram=128 * GIB, disk=TIB))
    assert placed.fits
    assert len(placed.moves) == 1
    assert "experts" in placed.moves[0]
    assert "on disk" in placed.moves[0]


@pytest.mark.parametrize("tiers", [{"gpu": GIB}, {"gpu": 24 * GIB, "ram": 64 * GIB}, {"ram": 16 * GIB, "disk": TIB}])
def test_what_fits_nowhere_is_said(tiers: dict[str, int]) -> None:
    fast = next(iter(tiers))
    assert not place(GLM, make_budget(GLM, REQUEST, tier=fast), machine(**tiers)).fits


@given(gpu=st.integers(8, 600), ram=st.integers(0, 800), disk=st.integers(0, 2000), context=st.integers(1, 1_048_576))
def test_nothing_is_lost_and_no_tier_overflows(gpu: int, ram: int, disk: int, context: int) -> None:
    before = budget(context=context)
    placed = place(GLM, before, machine(gpu=gpu * GIB, ram=ram * GIB, disk=disk * GIB))
    assert placed.budget.total_bytes == before.total_bytes
    for component in before.components:
        assert placed.budget.bytes_of(component.name) == component.num_bytes
    if placed.fits:
        limits = {"gpu": gpu * GIB, "ram": ram * GIB, "disk": disk * GIB}
        assert all(used <= limits[tier] for tier, used in placed.budget.by_tier().items())


@given(gpu=st.integers(8, 600), more=st.integers(0, 600), context=st.integers(1, 1_048_576))
def test_a_larger_fast_tier_never_leaves_more_outside(gpu: int, more: int, context: int) -> None:
    def outside(size: int) -> int:
        placed = place(GLM, budget(context=context), machine(gpu=size * GIB, ram=TIB))
        return placed.budget.total_bytes - placed.budget.by_tier().get("gpu", 0)

    assert outside(gpu + more) <= outside(gpu)


def test_the_same_request_is_placed_in_the_same_way() -> None:
    hardware = machine(gpu=80 * GIB, ram=512 * GIB)
    assert place(GLM, budget(), hardware) == place(GLM, budget(), hardware)
