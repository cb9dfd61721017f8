from __future__ import annotations

from longlens.plan.hardware_records import Hardware, Tier


def test_tiers_are_found_by_name_and_cards_share_theirs() -> None:
    card, disk = Tier("gpu", 100, 90, 1e12), Tier("disk", 1000, 900)
    box = Hardware("box", "a box", (card, disk), 2, None, "a shop")
    assert box.tier("gpu") is card
    assert box.tier("disk") is disk
    assert box.tier("ram") is None
    assert box.device_bytes == 45


def test_a_processor_has_no_memory_of_a_device() -> None:
    assert Hardware("box", "a box", (Tier("ram", 100, 90),), 1, None, "a shop").device_bytes == 0
