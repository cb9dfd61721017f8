from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from longlens.errors import CapacityError, UsageError
from longlens.machine import Gpu, Machine
from longlens.plan.hardware import HARDWARE, Tier, find_hardware, hardware_of
from longlens.units import GIB

CARDS = tuple(Gpu(f"uuid-{number}", "a card", (9, 0), (24 + number) * GIB, (20 + number) * GIB) for number in range(2))


def machine(gpus: tuple[Gpu, ...] = (), gpu_fault: str | None = None) -> Machine:
    return Machine("a processor", 2, 4, None, (), 24 * GIB, 20 * GIB, gpus, gpu_fault)


def test_this_machine_without_a_card_has_ram_and_the_disk_of_a_folder(tmp_path: Path) -> None:
    found = hardware_of(machine(), "cpu", disk=tmp_path)
    assert [tier.name for tier in found.tiers] == ["ram", "disk"]
    assert found.tier("ram") == Tier("ram", 24 * GIB, 20 * GIB, None)
    disk = found.tier("disk")
    assert disk is not None
    assert 0 < disk.free_bytes < disk.total_bytes == shutil.disk_usage(tmp_path).total
    assert (found.num_devices, found.device_bytes, found.peaks, found.faults) == (1, 0, None, ())


def test_no_disk_is_listed_where_none_was_named() -> None:
    assert [tier.name for tier in hardware_of(machine(), "cpu").tiers] == ["ram"]


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_card_is_the_first_tier(device: str, number: int) -> None:
    found = hardware_of(machine(CARDS), device)
    assert [tier.name for tier in found.tiers] == ["gpu", "ram"]
    assert found.tier("gpu") == Tier("gpu", (24 + number) * GIB, (20 + number) * GIB, None)
    assert found.device_bytes == (20 + number) * GIB
    assert found.title == "a card, a processor"


@pytest.mark.parametrize("device", ["cuda:2", "cuda:one"])
def test_a_card_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(CapacityError, match=f"no device '{device}'\nhint: use --device cpu"):
        hardware_of(machine(CARDS), device)


def test_a_driver_that_cannot_be_asked_is_said() -> None:
    with pytest.raises(CapacityError, match=r"no device 'cuda' \(nvidia-smi could not be read\)"):
        hardware_of(machine(gpu_fault="nvidia-smi could not be read"), "cuda")


def test_a_folder_that_is_yet_to_be_made_lies_on_the_disk_around_it(tmp_path: Path) -> None:
    found = hardware_of(machine(), "cpu", disk=tmp_path / "cache" / "pages")
    disk = found.tier("disk")
    assert disk is not None
    assert disk.total_bytes == shutil.disk_usage(tmp_path).total


def test_a_disk_that_cannot_be_probed_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    found = hardware_of(machine(), "cpu", disk=tmp_path)
    assert [tier.name for tier in found.tiers] == ["ram"]
    assert found.faults == (f"the disk of {tmp_path} could not be probed (Input/output error): no tier for it",)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("rtx-4090", "rtx-4090"),
        ("RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("2x RTX 4090", "rtx-4090-x2"),
        ("2x4090", "rtx-4090-x2"),
        ("RTX 3090 × 8", "rtx-3090-x8"),
        ("h100-x1", "h100"),
        ("H100 x8", "h100-x8"),
        ("nvidia-dgx-spark", "dgx-spark"),
        ("Mac Studio 512", "mac-studio-512"),
        ("epyc_12ch", "epyc-12ch"),
    ],
)
def test_a_machine_is_found_as_people_write_it(written: str, name: str) -> None:
    assert find_hardware(written) is HARDWARE[name]


def test_every_name_finds_itself() -> None:
    assert {name: find_hardware(name).name for name in HARDWARE} == {name: name for name in HARDWARE}


def test_an_unknown_machine_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no machine 'rtx-4080'.*\nhint: .*rtx-4090"):
        find_hardware("rtx-4080")


def test_a_name_like_no_other_is_refused_with_all() -> None:
    with pytest.raises(UsageError, match=r"hint: there are rtx-3090, .*laptop-32"):
        find_hardware("?")
