from __future__ import annotations

import pytest
import torch

from longlens.errors import UsageError
from longlens.kernels.choose import choose_kernels


def test_the_cpu_is_chosen_when_asked_for_and_the_reason_says_so() -> None:
    choice = choose_kernels("cpu")
    assert choice.device == torch.device("cpu")
    assert choice.reason == "plain torch on the CPU: asked for"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_auto_without_a_cuda_device_says_why_it_is_the_cpu() -> None:
    assert "no CUDA device" in choose_kernels("auto").reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_cuda_device_is_an_error_and_no_silent_fallback() -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        choose_kernels("cuda")


def test_an_unknown_device_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'tpu'"):
        choose_kernels("tpu")


@pytest.mark.cuda
def test_auto_takes_the_cuda_device() -> None:
    assert choose_kernels("auto").device.type == "cuda"
