"""Where the routed experts of a layer live. This first store keeps them all on the step's device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from longlens.kernels.interface import FeedForward


@dataclass(frozen=True)
class ResidentExperts:
    """All experts of a layer, stacked: `gate_EFD`, `up_EFD`, `down_EDF`."""

    gate_EFD: Tensor
    up_EFD: Tensor
    down_EDF: Tensor

    @property
    def num_experts(self) -> int:
        """E."""
        return self.gate_EFD.shape[0]

    def expert(self, expert_id: int) -> FeedForward:
        """Weights of one expert, as views."""
        return FeedForward(self.gate_EFD[expert_id], self.up_EFD[expert_id], self.down_EDF[expert_id])
