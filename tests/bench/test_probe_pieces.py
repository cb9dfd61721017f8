from __future__ import annotations

from typing import get_args

import pytest
import torch

from longlens.bench import probe_pieces
from longlens.bench.probe_pieces import batched_pieces, head_pieces, lone_pieces, sweep_pieces, weight_pieces
from longlens.kernels.host_memory import KEPT_BYTES
from longlens.plan.work import SweepName
from longlens.units import MIB

CPU = torch.device("cpu")
REAL_SIZES = probe_pieces.SWEEP_SIZES


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool and sizes that take no time."""
    monkeypatch.setattr(probe_pieces, "POOL_BYTES", 4 * MIB)
    monkeypatch.setattr(probe_pieces, "SWEEP_SIZES", (256, 65_536))
    for name in (
        "WEIGHT_ROWS",
        "WEIGHT_INNER",
        "WEIGHT_OUTER",
        "HEAD_INNER",
        "HEAD_OUTER",
        "BATCHED_INNER",
        "LONE_INNER",
    ):
        monkeypatch.setattr(probe_pieces, name, (4, 64))


def test_every_sweep_that_is_counted_is_measured_at_every_size() -> None:
    with torch.inference_mode():
        pieces = list(sweep_pieces(CPU))
        for piece in pieces:
            piece.run(0)
    names = {piece.name for piece in pieces}
    assert names == {(name, size) for name in get_args(SweepName) for size in (256, 65_536)}


def test_sweeps_make_as_many_elements_as_their_size_says() -> None:
    with torch.inference_mode():
        made = {piece.name: piece.run(3) for piece in sweep_pieces(CPU)}
    for name in ("map", "inplace", "mask", "softmax", "silu", "widen", "narrow", "copy", "turn", "weave", "repeat"):
        result = made[name, 65_536]
        assert isinstance(result, torch.Tensor)
        assert result.numel() == 65_536, name
    for name in ("rows", "narrow_rows", "far_rows", "far_narrow_rows"):
        result = made[name, 65_536]
        assert isinstance(result, torch.Tensor)
        assert result.numel() == 65_536


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_with_weights_have_the_sizes_they_are_named_for(dtype: torch.dtype) -> None:
    for piece in weight_pieces("f32", dtype, CPU):
        _, rows, _, outer = piece.name
        first, second = piece.run(0), piece.run(1)
        assert isinstance(first, torch.Tensor)
        assert isinstance(second, torch.Tensor)
        assert first.shape == (rows, outer)
        assert first.dtype == dtype


def test_batches_are_timed_a_member() -> None:
    for piece in (*batched_pieces(CPU), *head_pieces(CPU), *lone_pieces(CPU)):
        result = piece.run(1)
        assert isinstance(result, torch.Tensor)
        _, rows, _, outer = piece.name
        assert result.shape == (piece.members, rows, outer)


def test_sweeps_are_timed_before_and_behind_the_size_from_which_memory_is_given_back() -> None:
    edge = KEPT_BYTES // 4
    before, behind = (max(s for s in REAL_SIZES if s < edge), min(s for s in REAL_SIZES if s > edge))
    assert behind / before < 1.25
    # whole rows of 512 and of 6,144, in whole heads of 16, where rows are many
    assert all(size % (16 * 512) == size % 6144 == 0 for size in (before, behind))
