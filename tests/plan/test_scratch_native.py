from __future__ import annotations

from dataclasses import replace

from longlens.plan.packed import native_weights, packed_in_file_type
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.scratch_native import native_scratch_bytes

CONFIG = MODEL_PRESETS["pocket"].config
WEIGHTS = native_weights(CONFIG, packed_in_file_type(CONFIG, "q8_0"), "f32")
NOTHING = replace(WEIGHTS, products=(), forwards=(), experts=None)


def test_rows_are_rounded_to_two_orders_of_int8_with_scales_and_once_more_in_panels() -> None:
    only = replace(NOTHING, products=tuple(each for each in WEIGHTS.products if each.width == 384))
    extra = native_scratch_bytes(CONFIG, only, 1200, 1) - native_scratch_bytes(CONFIG, NOTHING, 1200, 1)
    # 384 columns are padded to 512; a tile of sixteen rows comes on top
    assert extra == 1200 * 512 * (2.5 + 1.5) + 512 * 20


def test_sums_of_heads_grow_with_the_positions_that_are_attended_to() -> None:
    near, far = (native_scratch_bytes(CONFIG, NOTHING, 1, positions) for positions in (256, 1024))
    assert far == 4 * near > 0
