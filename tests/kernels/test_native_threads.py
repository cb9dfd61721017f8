"""Threads of the C++ kernels: how many there are changes no bit, nor does who calls, nor a fork."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.random_matrices import TYPES, random_experts, random_matrix, random_rows

library = pytest.importorskip("longlens.kernels._native", reason="the C++ kernels are not built")
from longlens.kernels.native import NativeKernels  # noqa: E402

UNITS = library.unit_names()
THREADS = (1, 2, 3, 7)  # more than there are cores, here and there
KERNELS = {unit: [NativeKernels(threads, unit) for threads in THREADS] for unit in UNITS}

FORK = """
import os, torch
from longlens.kernels.native import NativeKernels
from tests.kernels.random_matrices import random_matrix, random_rows
kernels = NativeKernels(3)
weight, x = random_matrix("Q8_0", (300, 512)), random_rows(5, 512)
before = kernels.project(x, weight)
child = os.fork()
if child == 0:
    is_same = torch.equal(kernels.project(x, weight), before)
    own = torch.equal(NativeKernels(2).project(x, weight), before)
    del kernels
    os._exit(0 if is_same and own else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert torch.equal(kernels.project(x, weight), before)
"""


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_number_of_threads_changes_no_bit_of_a_product(data: st.DataObject) -> None:
    name, unit = data.draw(st.sampled_from(sorted(library.type_names()))), data.draw(st.sampled_from(UNITS))
    blocks = data.draw(st.integers(1, 3 if TYPES[name].block_elements == 256 else 18))
    weight = random_matrix(name, (data.draw(st.integers(1, 300)), blocks * TYPES[name].block_elements))
    x = random_rows(data.draw(st.integers(1, 40)), weight.shape[1])
    first, *others = [kernels.project(x, weight) for kernels in KERNELS[unit]]
    assert all(torch.equal(first, other) for other in others)


@settings(deadline=None, max_examples=30)
@given(tokens=st.integers(1, 40), num_experts=st.integers(1, 9), chosen=st.integers(1, 3), unit=st.sampled_from(UNITS))
def test_the_number_of_threads_changes_no_bit_of_experts(tokens: int, num_experts: int, chosen: int, unit: str) -> None:
    bank = random_experts(("Q4_K", "Q4_K", "Q6_K"), num_experts, 256, 256)
    x = random_rows(tokens, 256) / 16
    first_choice = torch.arange(tokens)[:, None] * 5
    ids = (first_choice + torch.arange(min(chosen, num_experts))) % num_experts
    weights = torch.rand(ids.shape, generator=torch.Generator().manual_seed(tokens))
    first, *others = [kernels.moe(x, ids, weights, bank) for kernels in KERNELS[unit]]
    assert all(torch.equal(first, other) for other in others)


def test_several_callers_at_once_get_what_each_would_get_alone() -> None:
    kernels = KERNELS[UNITS[0]][2]
    weight = random_matrix("Q4_K", (501, 512))
    inputs = [random_rows(1 + 5 * seed, 512, seed) for seed in range(4)]
    alone = [kernels.project(x, weight) for x in inputs]
    with ThreadPoolExecutor(4) as callers:
        for _ in range(20):
            together = list(callers.map(lambda x: kernels.project(x, weight), inputs))
            assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_a_forked_process_computes_without_the_threads_that_it_lacks() -> None:
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr


def test_a_wrong_number_of_threads_is_refused() -> None:
    for threads in (0, -1):
        with pytest.raises(ValueError, match="at least one thread"):
            NativeKernels(threads)
