from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.kernels.rotary import Angles, rotate
from longlens.model.config import LinearScaling, Llama3Scaling, RopeConfig, RopeScaling, YarnScaling
from longlens.model.rope import RotaryTable, amplitude_of, frequencies_of

CPU = torch.device("cpu")


def rope(scaling: RopeScaling | None = None, *, theta: float = 10000.0, dim: int = 64) -> RopeConfig:
    return RopeConfig(theta, dim, is_interleaved=True, scaling=scaling)


def angles_of(positions: list[int], config: RopeConfig) -> Angles:
    return RotaryTable(config, CPU).angles(torch.tensor(positions))


def test_frequencies_are_powers_of_theta() -> None:
    expected = [8e6 ** (-2 * pair / 64) for pair in range(32)]
    np.testing.assert_allclose(frequencies_of(rope(theta=8e6)).numpy(), expected, rtol=1e-6)


def test_an_angle_is_position_times_frequency_in_fp32() -> None:
    positions = torch.tensor([0, 1, 1000, 2**20 - 1])
    angles = RotaryTable(rope(theta=8e6), CPU).angles(positions)
    products = positions.float()[:, None] * frequencies_of(rope(theta=8e6))
    assert torch.equal(angles.cos_TR, products.cos())
    assert torch.equal(angles.sin_TR, products.sin())
    assert angles.cos_TR.dtype == torch.float32


def test_angles_of_some_tokens_are_rows_of_all_angles() -> None:
    angles = angles_of([4, 5, 6, 7], rope())
    assert torch.equal(angles.rows(1, 3).cos_TR, angles_of([5, 6], rope()).cos_TR)
    assert torch.equal(angles.rows(1, 3).sin_TR, angles_of([5, 6], rope()).sin_TR)


@pytest.mark.parametrize("is_interleaved", [True, False])
def test_each_pair_turns_by_its_angle(is_interleaved: bool) -> None:
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    config = rope(dim=8)
    turned = rotate(x, angles_of([5, 11], config), is_interleaved=is_interleaved)
    for token, position in enumerate([5, 11]):
        for pair in range(4):
            one, two = (2 * pair, 2 * pair + 1) if is_interleaved else (pair, pair + 4)
            turn = np.exp(1j * position * 10000.0 ** (-2 * pair / 8))
            expected = (x[token, :, one].numpy() + 1j * x[token, :, two].numpy()) * turn
            np.testing.assert_allclose(turned[token, :, one].numpy(), expected.real, atol=1e-6)
            np.testing.assert_allclose(turned[token, :, two].numpy(), expected.imag, atol=1e-6)


def test_half_split_is_interleaved_with_the_dims_in_another_order() -> None:
    x = torch.randn(5, 2, 64, generator=torch.Generator().manual_seed(1))
    angles = angles_of([0, 1, 9, 100, 5000], rope())
    order = [*range(0, 64, 2), *range(1, 64, 2)]
    interleaved = rotate(x, angles, is_interleaved=True)[..., order]
    half_split = rotate(x[..., order], angles, is_interleaved=False)
    assert torch.equal(interleaved, half_split)


def test_the_two_orders_differ_when_the_dims_stay_where_they_are() -> None:
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(2))
    angles = angles_of([7], rope())
    assert (rotate(x, angles, is_interleaved=True) - rotate(x, angles, is_interleaved=False)).abs().max() > 0.1


@settings(max_examples=30)
@given(query=st.integers(0, 5000), key=st.integers(0, 5000), shift=st.integers(0, 5000), is_interleaved=st.booleans())
def test_scores_depend_on_the_distance_alone(query: int, key: int, shift: int, is_interleaved: bool) -> None:
    q, k = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def score(at_query: int, at_key: int) -> float:
        turned_q = rotate(q, angles_of([at_query], rope()), is_interleaved=is_interleaved)
        turned_k = rotate(k, angles_of([at_key], rope()), is_interleaved=is_interleaved)
        return float((turned_q * turned_k).sum())

    assert score(query, key) == pytest.approx(score(query + shift, key + shift), abs=2e-2)  # angles are fp32


def test_a_rotation_keeps_lengths_and_position_zero_turns_nothing() -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    turned = rotate(x, angles_of([0, 17, 900], rope()), is_interleaved=True)
    assert torch.equal(turned[0], x[0])
    np.testing.assert_allclose(turned.norm(dim=-1).numpy(), x.norm(dim=-1).numpy(), rtol=1e-6)


def test_bf16_is_rotated_in_fp32_and_rounded_once() -> None:
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(5)).bfloat16()
    angles = angles_of([3, 70000], rope(theta=8e6))
    turned = rotate(x, angles, is_interleaved=True)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate(x.float(), angles, is_interleaved=True).bfloat16())


# Recorded from transformers 5.23, `_compute_yarn_parameters`, with DeepSeek-V3.2's own values.
DEEPSEEK_YARN = YarnScaling(40.0, 4096, 32.0, 1.0, 1.0, 1.0)
DEEPSEEK_FREQUENCIES = [
    1.0, 0.749894202, 0.562341332, 0.421696514, 0.316227764, 0.237137362, 0.177827939, 0.133352146,
    0.100000001, 0.0749894157, 0.0562341288, 0.0390069261, 0.0268793609, 0.0183781441, 0.012447956, 0.0083345091,
    0.00550000044, 0.00356199732, 0.00224936521, 0.00137051346, 0.000790569407, 0.000414990413, 0.00017782794,
    3.3338034e-05, 2.49999994e-05, 1.87473543e-05, 1.40585325e-05, 1.05424124e-05, 7.90569447e-06, 5.92843435e-06,
    4.44569832e-06, 3.33380353e-06,
]  # fmt: skip


def test_yarn_frequencies_are_those_of_transformers() -> None:
    np.testing.assert_allclose(frequencies_of(rope(DEEPSEEK_YARN)).numpy(), DEEPSEEK_FREQUENCIES, rtol=2e-7)


def yarn_by_the_paper(theta: float, dim: int, yarn: YarnScaling) -> list[float]:
    """arXiv 2309.00071, section 3.2: frequencies that turn often stay, those that turn seldom are divided."""

    def pair_that_turns(times: float) -> float:
        return dim / (2 * math.log(theta)) * math.log(yarn.original_max_position_embeddings / (times * 2 * math.pi))

    first, last = math.floor(pair_that_turns(yarn.beta_fast)), math.ceil(pair_that_turns(yarn.beta_slow))
    frequencies = []
    for pair in range(dim // 2):
        plain = theta ** (-2 * pair / dim)
        stretched = min(max((pair - max(first, 0)) / (min(last, dim - 1) - max(first, 0)), 0.0), 1.0)
        frequencies.append(plain * (1 - stretched) + plain / yarn.factor * stretched)
    return frequencies


@pytest.mark.parametrize("yarn", [DEEPSEEK_YARN, YarnScaling(4.0, 32768), YarnScaling(2.0, 512, 8.0, 0.5)])
@pytest.mark.parametrize("theta", [10000.0, 1e6])
def test_yarn_frequencies_are_those_of_the_paper(yarn: YarnScaling, theta: float) -> None:
    ours = frequencies_of(rope(yarn, theta=theta)).numpy()
    np.testing.assert_allclose(ours, yarn_by_the_paper(theta, 64, yarn), rtol=1e-6)


# The last two recorded from transformers 5.23.
AMPLITUDES = [
    (DEEPSEEK_YARN, 1.0),
    (YarnScaling(4.0, 4096), 1.138629436111989),
    (YarnScaling(40.0, 4096, mscale=0.707, mscale_all_dim=1.0), 0.9210423553163399),
    (YarnScaling(40.0, 4096, attention_factor=1.5), 1.5),
    (YarnScaling(1.0, 4096), 1.0),
    (LinearScaling(4.0), 1.0),
    (None, 1.0),
]


@pytest.mark.parametrize(("scaling", "amplitude"), AMPLITUDES)
def test_only_yarn_changes_the_amplitude(scaling: RopeScaling | None, amplitude: float) -> None:
    assert amplitude_of(rope(scaling)) == pytest.approx(amplitude, rel=1e-12)
    turned = rotate(torch.tensor([[1.0] + [0.0] * 63]), angles_of([1], rope(scaling)), is_interleaved=True)
    assert float(turned.norm()) == pytest.approx(amplitude, rel=1e-6)


def test_linear_scaling_divides_positions() -> None:
    scaled, plain = angles_of([40], rope(LinearScaling(4.0))), angles_of([10], rope())
    torch.testing.assert_close(scaled.cos_TR, plain.cos_TR, atol=1e-5, rtol=0)


# Recorded from transformers 5.23, `_compute_llama3_parameters`, with Llama 3.1's values and 32 dims.
LLAMA3 = Llama3Scaling(8.0, 8192, 1.0, 4.0)
LLAMA3_FREQUENCIES = [
    1.0, 0.440366626, 0.193922758, 0.0853971019, 0.0376060307, 0.0165604409, 0.00729266508, 0.00321144611,
    0.000524846022, 7.78465546e-05, 3.42810235e-05, 1.50962178e-05, 6.64786967e-06, 2.92749974e-06,
    1.28917316e-06, 5.6770881e-07,
]  # fmt: skip


def test_llama3_frequencies_are_those_of_transformers() -> None:
    ours = frequencies_of(rope(LLAMA3, theta=500000.0, dim=32)).numpy()
    np.testing.assert_allclose(ours, LLAMA3_FREQUENCIES, rtol=2e-7)


def test_a_factor_tensor_divides_each_frequency() -> None:
    factors = torch.tensor([1.0, 2.0, 4.0, 8.0])
    with_factors = RotaryTable(rope(dim=8), CPU, factors).angles(torch.tensor([6]))
    products = 6.0 * (frequencies_of(rope(dim=8)) / factors)
    assert torch.equal(with_factors.sin_TR[0], products.sin())
