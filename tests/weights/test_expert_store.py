from __future__ import annotations

import torch

from longlens.weights.expert_store import ResidentExperts


def test_an_expert_is_a_view_of_its_place_in_the_stacks() -> None:
    gate, up, down = torch.randn(3, 4, 2), torch.randn(3, 4, 2), torch.randn(3, 2, 4)
    experts = ResidentExperts(gate, up, down)
    assert experts.num_experts == 3
    chosen = experts.expert(2)
    assert chosen.gate_FD.data_ptr() == gate[2].data_ptr()
    assert torch.equal(chosen.up_FD, up[2])
    assert torch.equal(chosen.down_DF, down[2])
    assert chosen.gate_bias_F is None
