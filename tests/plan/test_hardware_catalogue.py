from __future__ import annotations

import pytest

from longlens.plan.hardware_catalogue import CATALOGUE
from longlens.plan.hardware_records import Hardware, Peaks, Tier
from longlens.units import GIB

BOXES = {
    **dict.fromkeys(("rtx-3090", "rtx-4090", "rtx-5090"), (1, 2, 4, 8)),
    "rtx-pro-6000": (1, 2, 4),
    **dict.fromkeys(("h100", "h200"), (1, 8)),
}
UNIFIED = ("mac-studio-192", "mac-studio-256", "mac-studio-512", "dgx-spark")
PROCESSORS = ("epyc-12ch", "epyc-12ch-6000", "laptop-16", "laptop-32")
EVERY = pytest.mark.parametrize("hardware", CATALOGUE.values(), ids=CATALOGUE)


def boxes(card: str) -> list[Hardware]:
    return [CATALOGUE[card if count == 1 else f"{card}-x{count}"] for count in BOXES[card]]


def tier(hardware: Hardware, name: str) -> Tier:
    return next(tier for tier in hardware.tiers if tier.name == name)


def peaks(hardware: Hardware) -> Peaks:
    assert hardware.peaks is not None
    return hardware.peaks


def test_the_catalogue_holds_these_machines() -> None:
    cards = {hardware.name for card in BOXES for hardware in boxes(card)}
    assert set(CATALOGUE) == {*cards, *UNIFIED, *PROCESSORS}


@EVERY
def test_every_record_says_where_it_is_from_and_what_it_assumes(hardware: Hardware) -> None:
    assert CATALOGUE[hardware.name] is hardware
    assert hardware.assumes
    assert hardware.source
    assert peaks(hardware).source
    assert hardware.faults == ()


@EVERY
def test_every_tier_has_room_and_a_rate_and_slower_ones_come_later(hardware: Hardware) -> None:
    rates = [tier.read_bytes_per_s for tier in hardware.tiers]
    assert all(rate is not None and rate > 0 for rate in rates)
    assert rates == sorted(rates, key=lambda rate: -(rate or 0))
    assert all(0 < tier.free_bytes < tier.total_bytes for tier in hardware.tiers)
    assert len({tier.name for tier in hardware.tiers}) == len(hardware.tiers)


@pytest.mark.parametrize("card", BOXES)
def test_more_cards_have_as_much_more_memory(card: str) -> None:
    first = boxes(card)[0]
    for count, box in zip(BOXES[card], boxes(card), strict=True):
        assert box.num_devices == count
        assert tier(box, "gpu").total_bytes == count * tier(first, "gpu").total_bytes
        assert tier(box, "gpu").read_bytes_per_s == tier(first, "gpu").read_bytes_per_s, "the rate of one"
        assert box.device_bytes == first.device_bytes
        assert box.peaks is first.peaks
        assert tier(box, "ram").total_bytes >= tier(first, "ram").total_bytes
        assert box.processor is not None


@pytest.mark.parametrize(
    ("name", "gib"),
    [("rtx-3090", 24), ("rtx-4090", 24), ("rtx-5090", 32), ("rtx-pro-6000", 96), ("h100", 80), ("h200", 141)],
)
def test_a_card_lists_a_little_less_than_it_is_sold_with(name: str, gib: int) -> None:
    assert 0.98 * gib * GIB < tier(CATALOGUE[name], "gpu").total_bytes <= gib * GIB


@pytest.mark.parametrize("name", UNIFIED)
def test_unified_memory_is_counted_once(name: str) -> None:
    hardware = CATALOGUE[name]
    assert hardware.is_unified
    assert [tier.name for tier in hardware.tiers] == ["gpu", "disk"]
    assert peaks(hardware).link_bytes_per_s is None


def test_nothing_else_is_unified() -> None:
    assert {name for name, hardware in CATALOGUE.items() if hardware.is_unified} == set(UNIFIED)


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_machine_without_a_card_computes_with_its_processor(name: str) -> None:
    hardware = CATALOGUE[name]
    assert [tier.name for tier in hardware.tiers] == ["ram", "disk"]
    assert hardware.peaks is hardware.processor
    assert hardware.num_devices == 1


def test_twelve_channels_read_460_gigabytes_a_second() -> None:
    assert tier(CATALOGUE["epyc-12ch"], "ram").read_bytes_per_s == 12 * 8 * 4800e6 == 460.8e9
    assert tier(CATALOGUE["epyc-12ch-6000"], "ram").read_bytes_per_s == 576e9


@pytest.mark.parametrize("name", ["rtx-4090", "rtx-5090", "rtx-pro-6000", "h100", "h200", "dgx-spark"])
def test_cards_with_fp8_do_twice_as_much_in_it(name: str) -> None:
    # Dense against dense: a figure with sparsity in one of them would be off by two.
    assert peaks(CATALOGUE[name]).fp8_flops == pytest.approx(2 * peaks(CATALOGUE[name]).bf16_flops, rel=1e-3)


def test_ampere_has_no_fp8() -> None:
    assert peaks(CATALOGUE["rtx-3090"]).fp8_flops is None


def test_a_zen_4_core_is_rated_a_little_above_what_it_was_measured_at() -> None:
    # Measured on one core: 234 GFLOP/s in bf16, 468 GOP/s in int8; at 4 GHz a core is rated 256 and 512.
    laptop = peaks(CATALOGUE["laptop-32"])
    assert laptop.bf16_flops / 8 == 256e9
    assert laptop.int8_ops == 2 * laptop.bf16_flops
