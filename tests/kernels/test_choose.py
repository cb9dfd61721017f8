from __future__ import annotations

import pytest
import torch

from longlens.errors import UsageError
from longlens.kernels import choose
from longlens.kernels.choose import choose_kernels

needs_library = pytest.mark.skipif(not choose.HAS_NATIVE, reason="the C++ kernels are not built")


@needs_library
def test_the_cpu_is_chosen_when_asked_for_and_the_reason_says_so() -> None:
    choice = choose_kernels("cpu")
    assert choice.device == torch.device("cpu")
    assert choice.reason == f"{choice.kernels.name} on the CPU: asked for"
    assert choice.kernels.name.startswith("C++ with ")
    assert {"Q4_K", "Q6_K", "Q8_0"} <= choice.packed_types


def test_plain_kernels_are_taken_when_asked_for_and_expand_everything() -> None:
    choice = choose_kernels("cpu", "plain")
    assert choice.kernels.name == "plain torch"
    assert choice.packed_types == frozenset()


def test_without_the_library_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "HAS_NATIVE", False)
    choice = choose_kernels("cpu")
    assert choice.kernels.name == "plain torch"
    assert choice.packed_types == frozenset()
    assert choice.reason == "plain torch on the CPU: asked for; the C++ kernels are not built here"


def test_a_library_that_is_insisted_on_and_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "HAS_NATIVE", False)
    with pytest.raises(UsageError, match="not built"):
        choose_kernels("cpu", "native")


def test_an_unknown_kind_of_kernels_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'fast'"):
        choose_kernels("cpu", "fast")  # type: ignore[arg-type]


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
