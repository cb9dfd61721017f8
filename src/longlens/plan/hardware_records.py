"""What a machine is to a plan: tiers of memory with their rates, and what its devices compute at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TierName = Literal["gpu", "ram", "disk"]


@dataclass(frozen=True)
class Tier:
    """A place where bytes lie.

    Attributes:
        name: "gpu" (memory of all devices together), "ram" or "disk".
        total_bytes: what is there.
        free_bytes: what a run may take; the rest belongs to drivers and the operating system.
        read_bytes_per_s: peak rate of reading it, for "gpu" that of ONE device; None where it was not measured.
    """

    name: TierName
    total_bytes: int
    free_bytes: int
    read_bytes_per_s: float | None = None


@dataclass(frozen=True)
class Peaks:
    """Published peaks of one device (dense, never counting zeros that sparsity skips).

    Attributes:
        bf16_flops: bf16 or fp16 products summed in fp32, FLOP/s.
        fp8_flops: fp8 products summed in fp32, FLOP/s; None where the device has none.
        int8_ops: int8 products summed in int32, operations/s; None where no figure is published.
        link_bytes_per_s: between the device's memory and RAM, one way, as it is reached in practice; None where the
            device computes in RAM itself.
        source: of these figures.
    """

    bf16_flops: float
    fp8_flops: float | None
    int8_ops: float | None
    link_bytes_per_s: float | None
    source: str


@dataclass(frozen=True)
class Hardware:
    """A machine as plans see it.

    Attributes:
        name: lower case, as it is typed.
        title: as people write it.
        tiers: fastest first; one tier each name.
        num_devices: graphics processors that a plan may use; 1 where the processor itself computes.
        peaks: of ONE device; of the processor where there is none; None for a machine that must be measured.
        source: where the figures of memory come from.
        is_unified: the "gpu" tier is the RAM as well, counted once; there is no "ram" tier then.
        processor: peaks of the processor beside the devices, for experts that are computed in RAM; None: unknown.
        assumes: what the record takes for granted about RAM, processor and disk, in a sentence.
        faults: what could not be found out and was left out, and why, a sentence each.
    """

    name: str
    title: str
    tiers: tuple[Tier, ...]
    num_devices: int
    peaks: Peaks | None
    source: str
    is_unified: bool = False
    processor: Peaks | None = None
    assumes: str = ""
    faults: tuple[str, ...] = ()

    def tier(self, name: TierName) -> Tier | None:
        """The tier of this name; None where the machine has none."""
        return next((tier for tier in self.tiers if tier.name == name), None)

    @property
    def device_bytes(self) -> int:
        """Free memory of one graphics processor; 0 without one."""
        tier = self.tier("gpu")
        return 0 if tier is None else tier.free_bytes // self.num_devices
