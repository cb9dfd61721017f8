from __future__ import annotations

import pytest

from longlens.bench.synthetic import MID, check_fits, synthetic_preset
from longlens.errors import CapacityError, UsageError
from longlens.machine import Machine
from longlens.model.needs import num_parameters
from longlens.plan.planner import Wishes
from longlens.plan.presets import find_preset
from longlens.units import GIB


def machine(num_bytes: int) -> Machine:
    return Machine("one", 2, 2, None, (), num_bytes, num_bytes)


def test_mid_has_886_million_parameters_and_five_full_layers_of_twelve() -> None:
    assert num_parameters(MID.config) == 886_037_168
    assert MID.config.indexer is not None
    assert "".join("F" if full else "S" for full in MID.config.indexer.is_full) == "FFFSSSFSSSFS"
    assert MID.config.moe is not None
    assert MID.config.moe.is_sparse == (False,) * 3 + (True,) * 9


@pytest.mark.parametrize("name", ["mid", " MID "])
def test_mid_is_found_by_name(name: str) -> None:
    assert synthetic_preset(name) is MID


def test_every_preset_of_the_plan_is_a_geometry() -> None:
    assert synthetic_preset("glm-5.2") is find_preset("glm-5.2")


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        synthetic_preset("mit")
    assert caught.value.mend == "did you mean mid?"


def test_what_the_plan_does_not_fit_is_refused_before_a_weight_is_made() -> None:
    wishes = Wishes(context=1024)
    check_fits(MID, machine(32 * GIB), "cpu", wishes)
    with pytest.raises(CapacityError):
        check_fits(MID, machine(1 * GIB), "cpu", wishes)
