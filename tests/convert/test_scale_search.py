import numpy as np
import pytest
import torch

from longlens.convert.scale_search import (
    fit_affine,
    fit_symmetric,
    round_affine,
    round_symmetric,
    symmetric_sums,
    weigh,
)


def groups(seed: int = 1, count: int = 40) -> torch.Tensor:
    """fp32 [2, 32, count] of ordinary weights, some of which have one sign."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, 32, count, generator=generator)
    weights[0, :, ::4] = weights[0, :, ::4].abs() + 1
    weights[1, :, ::4] = -weights[1, :, ::4].abs() - 1
    return weights


def affine_error(weights: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, most: int) -> torch.Tensor:
    """The weighted error of the nearest levels, in float64, [2, count]."""
    exact = weights.double()
    importance = exact.abs() + exact.square().mean(1, keepdim=True).sqrt()
    levels = ((exact - offset) / scale).round().clamp(0, most)
    return (importance * (scale * levels + offset - exact) ** 2).sum(1)


@pytest.mark.parametrize("most", [15, 31])
def test_the_affine_fit_is_near_the_best_of_a_fine_search(most: int) -> None:
    weights = groups()
    fit = fit_affine(weigh(weights), most)
    found = affine_error(weights, fit.scale, fit.offset, most)
    lowest = weights.amin(1, keepdim=True).clamp(max=0).double()
    span = weights.amax(1, keepdim=True) - lowest
    best = torch.full_like(found, torch.inf)
    for scale_share in np.linspace(0.8, 1.05, 40):
        for offset_share in np.linspace(0.8, 1.05, 40):
            scale = span / most * scale_share
            best = torch.minimum(best, affine_error(weights, scale, lowest * offset_share, most))
    assert (found / best).mean() < 1.03
    plain = affine_error(weights, span / most, lowest, most)
    assert (found <= plain * 1.0001).all()


def test_an_offset_above_zero_is_never_chosen_and_scales_are_positive() -> None:
    fit = fit_affine(weigh(groups()), 15)
    assert (fit.offset <= 0).all()
    assert (fit.scale > 0).all()


@pytest.mark.parametrize("value", [0.0, -3.0, 3.0, 1e-20])
def test_a_group_of_equal_weights_is_stored_as_it_is(value: float) -> None:
    weights = torch.full((1, 32, 2), value)
    fit = fit_affine(weigh(weights), 15)
    levels = torch.empty_like(weights)
    inverse = torch.where(fit.scale > 0, 1 / fit.scale, 0.0)
    round_affine(weights, inverse, fit.offset, 15, levels)
    torch.testing.assert_close(levels * fit.scale + fit.offset, weights, atol=1e-6, rtol=1e-5)


def test_levels_are_the_nearest_and_stay_in_their_range() -> None:
    weights = torch.tensor([-2.0, -0.9, 0.4, 0.6, 99.0]).view(1, 5, 1)
    levels = torch.empty_like(weights)
    one = torch.ones(1, 1, 1)
    round_affine(weights, one, -one, 15, levels)
    assert levels.flatten().tolist() == [0, 0, 1, 2, 15]
    round_symmetric(weights, -one, 4, levels)
    assert levels.flatten().tolist() == [2, 1, 0, -1, -4]


def test_the_symmetric_fit_is_near_the_best_of_a_fine_search() -> None:
    weights = groups(2)[:, :16]
    exact, squares = weights.double(), weights.double().square()
    extreme = torch.where(-weights.amin(1) > weights.amax(1), weights.amin(1), weights.amax(1)).unsqueeze(1)

    def error(scale: torch.Tensor) -> torch.Tensor:
        levels = (exact / scale).round().clamp(-32, 31)
        return (squares * (scale * levels - exact) ** 2).sum(1)

    found = error(fit_symmetric(weights, 32))
    best = torch.full_like(found, torch.inf)
    for share in np.linspace(0.9, 1.1, 400):
        best = torch.minimum(best, error(-extreme / 32 * share))
    assert (found / best).mean() < 1.2
    assert (found <= error(-extreme / 32) * 1.0001).all()


def test_zeros_have_the_symmetric_scale_zero() -> None:
    assert not fit_symmetric(torch.zeros(1, 16, 3), 32).any()


def test_the_symmetric_sums_are_those_of_weights_and_levels() -> None:
    weights, levels = groups(3)[:, :16], groups(4)[:, :16].round()
    products, level_squares = symmetric_sums(weights, weights * weights, levels.clone(), torch.empty_like(weights))
    torch.testing.assert_close(products, (weights**3 * levels).sum(1, keepdim=True))
    torch.testing.assert_close(level_squares, (weights**2 * levels**2).sum(1, keepdim=True))


def test_the_sums_of_a_group_are_weighted_by_importance() -> None:
    weights = groups(5)
    levels = weights.round()
    weighed = weigh(weights)
    sums = weighed.sums(levels, torch.empty_like(levels))
    importance = weights.abs() + weights.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(weighed.importance, importance)
    torch.testing.assert_close(sums.levels, (importance * levels).sum(1, keepdim=True))
    torch.testing.assert_close(sums.squares, (importance * levels**2).sum(1, keepdim=True))
    torch.testing.assert_close(sums.products, (importance * levels * weights).sum(1, keepdim=True))
