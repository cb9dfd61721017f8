"""Machines that a plan can be made for: this one, and a catalogue of others by name.

The catalogue's figures are published peaks. Whoever turns them into seconds states the share that it counts on. This
machine's rates are unknown here (None): `bench/probe.py` measures them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from longlens.errors import CapacityError, UsageError
from longlens.machine import Gpu, Machine
from longlens.plan.hardware_catalogue import CATALOGUE
from longlens.plan.hardware_records import Hardware, Peaks, Tier, TierName

__all__ = ["HARDWARE", "THIS_MACHINE", "Hardware", "Peaks", "Tier", "TierName", "find_hardware", "hardware_of"]

HARDWARE: Mapping[str, Hardware] = CATALOGUE

THIS_MACHINE = "this-machine"


def hardware_of(machine: Machine, device: str, *, disk: Path | None = None) -> Hardware:
    """Describe this machine as plans see it; every rate is None until it is measured.

    Args:
        machine: what was detected.
        device: "cpu", or a CUDA device as torch names it.
        disk: a folder of the disk that may take what does not fit elsewhere; it need not exist yet. None: no disk.

    Raises:
        CapacityError: the driver lists no such device.
    """
    tiers: list[Tier] = []
    title, source = machine.cpu_name, "the operating system"
    if device != "cpu":
        gpu = _gpu(machine, device)
        tiers.append(Tier("gpu", gpu.memory_total_bytes, gpu.memory_free_bytes))
        title, source = f"{gpu.name}, {machine.cpu_name}", "the driver and the operating system"
    tiers.append(Tier("ram", machine.memory_total_bytes, machine.memory_available_bytes))
    faults: list[str] = []
    if disk is not None:
        try:
            usage = shutil.disk_usage(_nearest_folder(disk))
            tiers.append(Tier("disk", usage.total, usage.free))
        except OSError as error:
            faults.append(f"the disk of {disk} could not be probed ({error.strerror or error}): no tier for it")
    return Hardware(
        name=THIS_MACHINE,
        title=title,
        tiers=tuple(tiers),
        num_devices=1,
        peaks=None,
        source=source,
        faults=tuple(faults),
    )


def find_hardware(name: str) -> Hardware:
    """Find a machine of the catalogue.

    Args:
        name: as in `HARDWARE`; case, spaces and the maker's name do not count, and the number of cards may come first
            ("2x RTX 4090" is "rtx-4090-x2").

    Raises:
        UsageError: no such machine; the nearest names are given.
    """
    wanted = _plain_name(name)
    if wanted in HARDWARE:
        return HARDWARE[wanted]
    close = get_close_matches(wanted, HARDWARE, n=3, cutoff=0.5)
    known = f"the nearest are {', '.join(close)}" if close else f"there are {', '.join(HARDWARE)}"
    raise UsageError(f"no machine {name!r} is in the catalogue", known)


_COUNT_FIRST = re.compile(r"(\d)x-?(.+)")
_COUNT_LAST = re.compile(r"-?x-?(\d)$")
_MAKERS = ("nvidia-", "geforce-", "apple-", "amd-")


def _plain_name(name: str) -> str:
    plain = re.sub(r"[\s_-]+", "-", name.strip().lower().replace("×", "x"))
    if (match := _COUNT_FIRST.fullmatch(plain)) is not None:
        plain = f"{match[2]}-x{match[1]}"
    for maker in _MAKERS:
        plain = plain.removeprefix(maker)
    plain = _COUNT_LAST.sub(r"-x\1", plain).removesuffix("-x1")
    return f"rtx-{plain}" if plain[:1].isdigit() else plain


def _gpu(machine: Machine, device: str) -> Gpu:
    number = device.partition(":")[2] or "0"
    if not number.isdigit() or int(number) >= len(machine.gpus):
        why = f" ({machine.gpu_fault})" if machine.gpu_fault else ""
        raise CapacityError(f"the driver lists no device {device!r}{why}", "use --device cpu")
    return machine.gpus[int(number)]


def _nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest around it that exists: the same disk in all but odd cases."""
    return next((folder for folder in (path, *path.absolute().parents) if folder.exists()), path)
