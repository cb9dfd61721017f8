from __future__ import annotations

import torch

from longlens.kernels.packed import PackedTensor
from tests.kernels.random_matrices import random_experts


def test_each_address_is_where_that_experts_bytes_begin() -> None:
    bank = random_experts(("Q4_K", "Q5_K", "Q6_K"), 3, 512, 256)
    assert bank.addresses.shape == (3, 3)
    for expert_id in range(3):
        expert = bank.expert(expert_id)
        for row, matrix in enumerate((expert.gate_FD, expert.up_FD, expert.down_DF)):
            assert isinstance(matrix, PackedTensor)
            assert bank.addresses[row, expert_id] == matrix.address


def test_an_expert_is_its_part_of_the_stacks() -> None:
    bank = random_experts(("Q8_0", "Q8_0", "Q4_0"), 4, 64, 96)
    assert bank.num_experts == 4
    up = bank.expert(2).up_FD
    assert isinstance(up, PackedTensor)
    assert torch.equal(up.dense(torch.float32), bank.up_EFD.dense(torch.float32)[2])
