"""Which implementation of the operations runs here, and why. Nothing else in the house decides that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from longlens.errors import UsageError
from longlens.kernels.interface import Kernels
from longlens.kernels.reference import ReferenceKernels

try:
    from longlens.kernels.native import PACKED_TYPES, NativeKernels
except ImportError:  # built without a compiler, or for another Python
    HAS_NATIVE = False
else:
    HAS_NATIVE = True

KernelWish = Literal["auto", "native", "plain"]
_KERNEL_WISHES: tuple[KernelWish, ...] = ("auto", "native", "plain")


@dataclass(frozen=True)
class KernelChoice:
    """The chosen kernels, the device they run on, and the reason in one sentence.

    Attributes:
        kernels: what computes.
        device: where.
        reason: why these.
        packed_types: element types that the kernels multiply with as they lie in the file.
    """

    kernels: Kernels
    device: torch.device
    reason: str
    packed_types: frozenset[str] = frozenset()


def choose_kernels(device: str, wish: KernelWish = "auto", num_threads: int = 1) -> KernelChoice:
    """Choose the device and the kernels.

    Args:
        device: "auto", "cpu", or a CUDA device such as "cuda" or "cuda:1".
        wish: "native" insists on the C++ library, "plain" on torch alone; "auto" takes the library where there is one.
        num_threads: threads of the C++ library.

    Raises:
        UsageError: the device or the library is unknown or not there.
    """
    if wish not in _KERNEL_WISHES:
        raise UsageError(f"{wish!r} is no kind of kernels", f"choose {', '.join(_KERNEL_WISHES)}")
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise UsageError(f"{device!r} is not a device", "choose auto, cpu or cuda")
    has_cuda = torch.cuda.is_available()
    if kind == "cuda" and not has_cuda:
        raise UsageError("no CUDA device is there", "use --device cpu, or install a torch build with CUDA")
    if kind == "cpu" or not has_cuda:
        return _on_the_cpu(wish, num_threads, "asked for" if kind == "cpu" else "no CUDA device is there")
    if wish == "native":
        raise UsageError("the C++ kernels run on the CPU only", "use --device cpu, or leave out --kernels")
    chosen = torch.device("cuda" if kind == "auto" else device)
    return KernelChoice(ReferenceKernels(), chosen, f"plain torch on {chosen}: no CUDA kernels are built yet")


def _on_the_cpu(wish: KernelWish, num_threads: int, why: str) -> KernelChoice:
    device = torch.device("cpu")
    if wish == "plain":
        return KernelChoice(ReferenceKernels(), device, f"plain torch on the CPU: {why}, and plain kernels as well")
    if HAS_NATIVE:
        kernels = NativeKernels(num_threads)
        return KernelChoice(kernels, device, f"{kernels.name} on the CPU: {why}", PACKED_TYPES)
    if wish == "native":
        raise UsageError("the C++ kernels are not built here", "install longlens where there is a C++ compiler")
    return KernelChoice(
        ReferenceKernels(), device, f"plain torch on the CPU: {why}; the C++ kernels are not built here"
    )
