from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from longlens.bench import probe, probe_pieces
from longlens.bench.probe import measure_machine
from longlens.bench.probe_pieces import Piece
from longlens.machine import Machine
from longlens.plan.profile import read_profile, write_profile
from longlens.plan.rates import PlainRates
from longlens.units import GIB, MIB

MACHINE = Machine("a processor", 2, 2, None, (), 8 * GIB, 8 * GIB)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small grids, so that a pass takes milliseconds."""
    monkeypatch.setattr(probe_pieces, "POOL_BYTES", 4 * MIB)
    monkeypatch.setattr(probe_pieces, "SWEEP_SIZES", (256, 4096))
    monkeypatch.setattr(probe, "_PIECE_SECONDS", 1e-6)
    for name in ("WEIGHT_ROWS", "WEIGHT_INNER", "WEIGHT_OUTER", "HEAD_ROWS", "HEAD_INNER", "HEAD_OUTER"):
        for module in (probe, probe_pieces):
            monkeypatch.setattr(module, name, (4, 64))
    for name in ("BATCHED_ROWS", "BATCHED_INNER", "BATCHED_OUTER", "LONE_ROWS", "LONE_INNER", "LONE_OUTER"):
        for module in (probe, probe_pieces):
            monkeypatch.setattr(module, name, (4, 64))


@pytest.mark.usefixtures("quick")
def test_a_measurement_is_a_profile_that_survives_the_disk(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    profile = measure_machine(folder=tmp_path / "cache", num_threads=1, budget_seconds=0, machine=MACHINE)
    assert (profile.machine, profile.device, profile.num_threads) == ("a processor", "cpu", 1)
    assert profile.kernels == "plain torch"
    assert profile.source.startswith("measured with torch")
    assert profile.disk_write_bytes_per_s is not None
    assert profile.stolen_share is not None
    assert 0 <= profile.stolen_share < 1
    write_profile(tmp_path / "profile.json", profile)
    assert read_profile(tmp_path / "profile.json") == profile
    assert torch.get_num_threads() == before
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_without_a_folder_no_disk_is_measured() -> None:
    profile = measure_machine(num_threads=1, budget_seconds=0, machine=MACHINE)
    assert profile.disk_read_bytes_per_s is None
    assert profile.link_bytes_per_s is None


@pytest.mark.usefixtures("quick")
def test_larger_work_is_measured_to_take_longer() -> None:
    rates = measure_machine(num_threads=1, budget_seconds=0, machine=MACHINE).rates
    assert isinstance(rates, PlainRates)
    assert rates.sweeps["sort"].seconds[-1] > rates.sweeps["sort"].seconds[0]
    assert set(rates.weights) == {"f32", "bf16", "heads", "lone"}
    assert rates.view_s > 0
    assert rates.call_s > 0


def test_a_piece_is_timed_a_member_and_on_other_memory_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Iterator[float] = iter(range(100))
    monkeypatch.setattr(probe.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(probe, "_PIECE_SECONDS", 2.5)
    seen: list[int] = []
    assert probe._time(Piece(("x",), seen.append, members=4), torch.device("cpu"), 1) == pytest.approx(0.25)
    assert len(set(seen)) == len(seen) == 3


def test_what_runs_before_a_piece_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = [0.0]
    monkeypatch.setattr(probe.time, "perf_counter", lambda: ticks[0])
    monkeypatch.setattr(probe, "_PIECE_SECONDS", 1.5)

    def take(seconds: float) -> None:
        ticks[0] += seconds

    piece = Piece(("x",), lambda _: take(1.0), before=lambda _: take(100.0))
    assert probe._time(piece, torch.device("cpu"), 1) == pytest.approx(1.0)


def test_a_processor_that_somebody_else_had_is_noticed() -> None:
    clock = probe._Clock(wall=10.0, processor=5.0)
    assert clock.stolen_share(1) == pytest.approx(0.5)
    assert clock.stolen_share(2) == pytest.approx(0.75)
    assert probe._Clock().stolen_share(2) == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("quick")
def test_a_cuda_device_has_a_link() -> None:
    profile = measure_machine("cuda", budget_seconds=0)
    assert profile.device == "cuda"
    assert profile.link_bytes_per_s is not None
