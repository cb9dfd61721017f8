"""What a process has taken of the memory, as the kernel counts it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from longlens.bench.figure import MemoryUse
from longlens.units import KIB


def memory_use(device: torch.device, *, root: Path = Path("/")) -> MemoryUse:
    """Read the peak of the resident memory, what of it is in no file, and the device's peak.

    Source: proc(5): VmHWM and RssAnon in /proc/self/status.
    """
    lines = _status(root).splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return MemoryUse(
        peak_rss_bytes=_bytes(fields.get("VmHWM")),
        anonymous_bytes=_bytes(fields.get("RssAnon")),
        device_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def reset_peak(*, root: Path = Path("/")) -> None:
    """Forget the peak so far, so that what is measured is not charged for what was done before.

    Where the operating system cannot, the peak stays that of the whole process.

    Source: proc(5): 5 written to /proc/self/clear_refs.
    """
    with contextlib.suppress(OSError):
        (root / "proc/self/clear_refs").write_text("5")


def _status(root: Path) -> str:
    try:
        return (root / "proc/self/status").read_text()
    except OSError:  # not Linux
        return ""


def _bytes(words: list[str] | None) -> int | None:
    return int(words[0]) * KIB if words else None
