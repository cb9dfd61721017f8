from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import FormatError
from longlens.plan.rates import Curve, LimitRates, PlainRates, ProductGrid
from tests.plan.rates_by_hand import plain_rates

POSITIVE = st.floats(1e-9, 1e3)


def test_a_curve_passes_through_its_points_and_keeps_its_last_rate_beyond_them() -> None:
    curve = Curve((10.0, 1000.0), (1e-3, 1e-2))
    assert curve.at(1) == curve.at(10) == 1e-3
    assert curve.at(100) == pytest.approx(10**-2.5)
    assert curve.at(1000) == 1e-2
    assert curve.at(4000) == 4e-2


def test_a_grid_passes_through_its_points_and_scales_beyond_them() -> None:
    grid = ProductGrid((1.0, 4.0), (8.0, 16.0), (32.0,), (1.0, 2.0, 3.0, 8.0))
    assert grid.at(1, 8, 32) == pytest.approx(1.0)
    assert grid.at(4, 16, 32) == pytest.approx(8.0)
    assert grid.at(2, 16, 32) == pytest.approx(4.0)
    assert grid.at(4, 16, 320) == pytest.approx(80.0)
    assert grid.at(0.5, 4, 8) == pytest.approx(1.0)


@given(st.lists(POSITIVE, min_size=8, max_size=8), st.tuples(*[st.floats(0.5, 100)] * 3), st.floats(1, 5))
def test_a_larger_product_never_takes_less_time_whatever_was_measured(
    seconds: list[float], sizes: tuple[float, float, float], factor: float
) -> None:
    grid = ProductGrid((1.0, 7.0), (2.0, 30.0), (4.0, 9.0), tuple(seconds))
    for axis in range(3):
        larger = tuple(size * factor if place == axis else size for place, size in enumerate(sizes))
        assert grid.at(*larger) >= grid.at(*sizes) * (1 - 1e-9)


@given(st.lists(POSITIVE, min_size=4, max_size=4), st.floats(0.1, 1e4), st.floats(1, 5))
def test_a_larger_sweep_never_takes_less_time_whatever_was_measured(
    seconds: list[float], size: float, factor: float
) -> None:
    curve = Curve((1.0, 10.0, 100.0, 1000.0), tuple(seconds))
    assert curve.at(size * factor) >= curve.at(size) * (1 - 1e-9)


@pytest.mark.parametrize(
    ("sizes", "seconds"),
    [((), ()), ((0.0,), (1.0,)), ((2.0, 1.0), (1.0, 1.0)), ((1.0,), (0.0,)), ((1.0,), (float("nan"),)), ((1.0,), ())],
)
def test_a_curve_that_cannot_be_one_is_refused(sizes: tuple[float, ...], seconds: tuple[float, ...]) -> None:
    with pytest.raises(FormatError, match="measure the machine again"):
        Curve(sizes, seconds)


def test_a_grid_with_a_missing_time_is_refused() -> None:
    axes = ((1.0, 2.0), (1.0,), (1.0,))
    assert ProductGrid(*axes, seconds=(1.0, 2.0)).seconds == (1.0, 2.0)
    with pytest.raises(FormatError, match="2 positive times"):
        ProductGrid(*axes, seconds=(1.0,))


def test_a_grid_keeps_the_order_of_its_points() -> None:
    axes = ((1.0, 2.0), (1.0, 2.0), (1.0, 2.0))
    seconds = tuple(float(1 + sum(place)) for place in product((0, 1), repeat=3))
    assert ProductGrid(*axes, seconds=seconds).seconds == seconds


def test_rates_name_what_they_are() -> None:
    assert isinstance(plain_rates(), PlainRates)
    assert LimitRates(1.0, 2.0, 3.0, {"gpu": 4.0}).read_bytes_per_s["gpu"] == 4.0
