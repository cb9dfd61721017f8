"""One cached tensor of one layer, in the memory that all sequences share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longlens.errors import CapacityError, ShapeError
from longlens.kernels.interface import CachedRows
from longlens.model.state import CacheElement, CacheTensor
from longlens.units import format_bytes

TORCH_TYPES: dict[CacheElement, torch.dtype] = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


@dataclass(frozen=True)
class LayerState:
    """The rows of one cached tensor: `pool_PX` holds one row a slot, for every sequence."""

    tensor: CacheTensor
    pool_PX: Tensor

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the memory behind the rows, as torch allocated it."""
        return self.pool_PX.untyped_storage().nbytes()

    def write(self, rows_TX: Tensor, slots_T: Tensor) -> None:
        """Store one row in each slot, rounded to the tensor's element type.

        Raises:
            ShapeError: the rows are not as many or not as wide as the slots.
        """
        shape, expected = tuple(rows_TX.shape), (slots_T.shape[0], self.tensor.width)
        if shape != expected:
            raise ShapeError(
                f"{self.tensor.kind} rows of layer {self.tensor.layer} have shape {shape}, not {expected}",
                "a model writes one row per token, as wide as its CacheSpec says",
            )
        self.pool_PX.index_copy_(0, slots_T, rows_TX.to(self.pool_PX.dtype))

    def read(self, slots_S: Tensor) -> CachedRows:
        """The rows of a sequence whose positions lie in these slots; nothing is copied."""
        return CachedRows(self.pool_PX, slots_S)

    def copy(self, source_slot: int, target_slot: int, num_slots: int) -> None:
        """Copy a run of rows onto another that does not overlap it."""
        source_X = self.pool_PX[source_slot : source_slot + num_slots]
        self.pool_PX[target_slot : target_slot + num_slots].copy_(source_X)


def allocate_layer_state(tensor: CacheTensor, num_slots: int, device: torch.device) -> LayerState:
    """Take memory for `num_slots` rows of one cached tensor.

    The memory is not cleared: a slot is written before it is read, and untouched pages cost no RAM.

    Raises:
        CapacityError: the device has no room for it.
    """
    try:
        pool_PX = torch.empty((num_slots, tensor.width), dtype=TORCH_TYPES[tensor.element], device=device)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # torch reports a lack of RAM as a plain RuntimeError that only its text tells from others.
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "allocate" not in str(error):
            raise
        needed = format_bytes(num_slots * tensor.row_bytes)
        raise CapacityError(
            f"no room on {device} for {needed} of {tensor.kind} rows of layer {tensor.layer}",
            "give the cache fewer tokens (--context)",
        ) from error
    return LayerState(tensor, pool_PX)
