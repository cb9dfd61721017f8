from __future__ import annotations

import pytest

from longlens.weights.parameters import ParameterNeed


@pytest.mark.parametrize(("shape", "count"), [((3, 4, 5), 60), ((7,), 7), ((), 1)])
def test_elements_are_the_product_of_the_sizes(shape: tuple[int, ...], count: int) -> None:
    assert ParameterNeed("x", shape).num_elements == count


def test_a_parameter_follows_the_plans_precision_and_is_run_unless_it_says_otherwise() -> None:
    need = ParameterNeed("x", (1,))
    assert (need.precision, need.is_run) == ("compute", True)
