"""The routed experts of a layer as they lie in the file: one packed tensor for each of the three matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from longlens.kernels.interface import FeedForward
from longlens.kernels.packed import PackedTensor


@dataclass(frozen=True, eq=False)
class PackedExperts:
    """All experts of a layer, stacked and packed: `gate_EFD`, `up_EFD`, `down_EDF`. An `ExpertBank`."""

    gate_EFD: PackedTensor
    up_EFD: PackedTensor
    down_EDF: PackedTensor

    @property
    def num_experts(self) -> int:
        """E."""
        return self.gate_EFD.shape[0]

    def expert(self, expert_id: int) -> FeedForward:
        """Weights of one expert, as views."""
        return FeedForward(
            self.gate_EFD.expert(expert_id), self.up_EFD.expert(expert_id), self.down_EDF.expert(expert_id)
        )

    @cached_property
    def addresses(self) -> npt.NDArray[np.uint64]:
        """Where each expert's gate, up and down matrix begins in memory, [3, E]."""
        experts = np.arange(self.num_experts, dtype=np.uint64)
        stacks = (self.gate_EFD, self.up_EFD, self.down_EDF)
        rows = [stack.address + experts * np.uint64(stack.num_bytes // self.num_experts) for stack in stacks]
        return np.ascontiguousarray(np.stack(rows))
