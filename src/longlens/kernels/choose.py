"""Which implementation of the operations runs here, and why. Nothing else in the house decides that."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longlens.errors import UsageError
from longlens.kernels.interface import Kernels
from longlens.kernels.reference import ReferenceKernels


@dataclass(frozen=True)
class KernelChoice:
    """The chosen kernels, the device they run on, and the reason in one sentence."""

    kernels: Kernels
    device: torch.device
    reason: str


def choose_kernels(device: str) -> KernelChoice:
    """Choose the device and the kernels.

    Args:
        device: "auto", "cpu", or a CUDA device such as "cuda" or "cuda:1".

    Raises:
        UsageError: the device is unknown or not there.
    """
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise UsageError(f"{device!r} is not a device", "choose auto, cpu or cuda")
    has_cuda = torch.cuda.is_available()
    if kind == "cuda" and not has_cuda:
        raise UsageError("no CUDA device is there", "use --device cpu, or install a torch build with CUDA")
    if kind == "cpu" or not has_cuda:
        why = "asked for" if kind == "cpu" else "no CUDA device is there"
        return KernelChoice(ReferenceKernels(), torch.device("cpu"), f"plain torch on the CPU: {why}")
    chosen = torch.device("cuda" if kind == "auto" else device)
    return KernelChoice(ReferenceKernels(), chosen, f"plain torch on {chosen}: no CUDA kernels are built yet")
