from __future__ import annotations

from longlens.kernels.reference import SCRATCH_BYTES
from longlens.plan.scratch_phases import TILE_BYTES, StepShape, layer_phases
from tests.plan.test_scratch import tiny

STEP = StepShape(100, 4096, 1, "f32", 4, 1024)


def test_a_tile_is_what_the_plain_kernels_keep_an_operation_to() -> None:
    assert TILE_BYTES == SCRATCH_BYTES


def test_every_part_of_a_layer_holds_the_residual_stream_and_the_rows_after_the_norm() -> None:
    for case in ("glm_topk8", "llama_tied"):
        config = tiny(case)
        stream = 100 * config.hidden_size * 4
        phases = list(layer_phases(config, STEP))
        assert len(phases) > 3
        assert all(blocks[:2] == [stream, stream] for blocks in phases)


def test_16_bit_rows_take_half_in_the_stream() -> None:
    config = tiny()
    narrow = StepShape(100, 4096, 1, "bf16", 2, 1024)
    assert next(layer_phases(config, narrow))[0] * 2 == next(layer_phases(config, STEP))[0]
