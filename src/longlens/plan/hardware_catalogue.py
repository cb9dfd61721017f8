"""Machines by name, with published figures and where they were published.

Sizes and rates of memory are the makers'; what a run may take leaves out what drivers and the operating system hold.
Peaks are dense, summed in fp32, and those of the rated clock: a card that runs above it exceeds them (an RTX 5090
reaches 254 bf16 TFLOP/s of a published 209.5: https://github.com/xzwgit/gpu-flops-bench). The rate of the link is what
PCI Express reaches in practice: 25 of 31.5 GB/s for 16 lanes of version 4, 52 of 63 GB/s of version 5. A disk's rate is
that of one PCIe 4 drive read in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from longlens.plan.hardware_records import Hardware, Peaks, Tier
from longlens.units import GIB, MIB

_GB, _TB = 10**9, 10**12
_PCIE_4, _PCIE_5 = 25e9, 52e9
# A CUDA context and the driver's own; on a desktop whose screen hangs on the card, less is free.
_DRIVER_BYTES = 512 * MIB
_SYSTEM_BYTES = 4 * GIB
_NVME_BYTES_PER_S = 6.5e9


@dataclass(frozen=True)
class _Card:
    """One graphics processor; `memory_bytes` as its driver lists it."""

    name: str
    title: str
    memory_bytes: int
    memory_bytes_per_s: float
    peaks: Peaks
    source: str


@dataclass(frozen=True)
class _Host:
    """What a card is put into."""

    ram_bytes: int
    ram_bytes_per_s: float
    disk_bytes: int
    processor: Peaks
    assumes: str


def _zen4(cores: int, hertz: float) -> Peaks:
    """Peaks of a Zen 4 processor: a 512-bit bf16 or int8 dot product a cycle and core."""
    return Peaks(
        bf16_flops=cores * hertz * 64,
        fp8_flops=None,
        int8_ops=cores * hertz * 128,
        link_bytes_per_s=None,
        source=f"{cores} cores at {hertz / 1e9:g} GHz, 64 bf16 FLOP and 128 int8 operations a cycle: "
        "https://www.amd.com/en/products/specifications/server-processor.html and AMD's Zen 4 optimisation guide",
    )


_DESKTOP = _Host(
    128 * GIB,
    80e9,
    2 * _TB,
    _zen4(16, 4.5e9),
    "a 16-core desktop with 128 GiB of 2-channel DDR5 (four modules, 5000 MT/s: 80 GB/s) and a 2 TB PCIe 4 drive",
)
_WORKSTATION = _Host(
    512 * GIB,
    332.8e9,
    4 * _TB,
    _zen4(32, 4.0e9),
    "a 32-core workstation with 512 GiB of 8-channel DDR5-5200 (332.8 GB/s) and a 4 TB PCIe 4 drive",
)
_SERVER = _Host(
    768 * GIB,
    460.8e9,
    8 * _TB,
    _zen4(64, 3.1e9),
    "a 64-core server with 768 GiB of 12-channel DDR5-4800 (460.8 GB/s) and 8 TB of PCIe 4 drives, rate of one",
)
_DGX = _Host(
    2048 * GIB,
    614.4e9,
    30 * _TB,
    _zen4(112, 2.0e9),
    "a node with 2 TiB of DDR5-4800 in 2 x 8 channels (614.4 GB/s), two 56-core processors (AMX not counted), "
    "and 30 TB of PCIe 4 drives, rate of one: https://docs.nvidia.com/dgx/dgxh100-user-guide/",
)

_AMPERE = "https://images.nvidia.com/aem-dam/en-zz/Solutions/geforce/ampere/pdf/NVIDIA-ampere-GA102-GPU-Architecture-Whitepaper-V1.pdf"
_ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
_BLACKWELL = "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf"
_BLACKWELL_PRO = "https://www.nvidia.com/content/dam/en-zz/Solutions/design-visualization/quadro-product-literature/NVIDIA-RTX-Blackwell-PRO-GPU-Architecture-v1.0.pdf"
_HOPPER = "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet"
_H200 = "https://www.nvidia.com/en-us/data-center/h200/"

_RTX_3090 = _Card(*("rtx-3090", "RTX 3090", 24_576 * MIB, 936e9), Peaks(71e12, None, 284e12, _PCIE_4, _AMPERE), _AMPERE)
_RTX_4090 = _Card(
    *("rtx-4090", "RTX 4090", 24_564 * MIB, 1008e9), Peaks(165.2e12, 330.3e12, 660.6e12, _PCIE_4, _ADA), _ADA
)
_RTX_5090 = _Card(
    *("rtx-5090", "RTX 5090", 32_607 * MIB, 1792e9), Peaks(209.5e12, 419e12, 838e12, _PCIE_5, _BLACKWELL), _BLACKWELL
)
_RTX_PRO_6000 = _Card(
    *("rtx-pro-6000", "RTX PRO 6000 Blackwell", 97_887 * MIB, 1792e9),
    Peaks(503.8e12, 1007.6e12, 1007.6e12, _PCIE_5, _BLACKWELL_PRO),
    _BLACKWELL_PRO,
)
_H100 = _Card(
    *("h100", "H100 SXM 80GB", 81_559 * MIB, 3350e9), Peaks(989.4e12, 1978.9e12, 1978.9e12, _PCIE_5, _HOPPER), _HOPPER
)
_H200_CARD = _Card(
    *("h200", "H200 SXM", 143_771 * MIB, 4800e9), Peaks(989.4e12, 1978.9e12, 1978.9e12, _PCIE_5, _H200), _H200
)
_BOXES: tuple[tuple[_Card, Mapping[int, _Host]], ...] = (
    *((card, {1: _DESKTOP, 2: _DESKTOP, 4: _WORKSTATION, 8: _SERVER}) for card in (_RTX_3090, _RTX_4090, _RTX_5090)),
    (_RTX_PRO_6000, {1: _DESKTOP, 2: _WORKSTATION, 4: _SERVER}),
    (_H100, {1: _SERVER, 8: _DGX}),
    (_H200_CARD, {1: _SERVER, 8: _DGX}),
)


def _boxes() -> Iterator[Hardware]:
    for card, hosts in _BOXES:
        for count, host in hosts.items():
            yield Hardware(
                name=card.name if count == 1 else f"{card.name}-x{count}",
                title=card.title if count == 1 else f"{count} x {card.title}",
                tiers=(_memory_of(card, count), *_tiers_of(host)),
                num_devices=count,
                peaks=card.peaks,
                source=card.source,
                processor=host.processor,
                assumes=host.assumes,
            )


def _memory_of(card: _Card, count: int) -> Tier:
    free = card.memory_bytes - _DRIVER_BYTES
    return Tier("gpu", count * card.memory_bytes, count * free, card.memory_bytes_per_s)


def _tiers_of(host: _Host) -> tuple[Tier, Tier]:
    return Tier("ram", host.ram_bytes, host.ram_bytes - _SYSTEM_BYTES, host.ram_bytes_per_s), _disk(host.disk_bytes)


def _disk(num_bytes: int, bytes_per_s: float = _NVME_BYTES_PER_S) -> Tier:
    """A drive that is a tenth full."""
    return Tier("disk", num_bytes, num_bytes * 9 // 10, bytes_per_s)


_M2_ULTRA = "https://www.apple.com/newsroom/2023/06/apple-introduces-m2-ultra/"
_M3_ULTRA = "https://www.apple.com/newsroom/2025/03/apple-reveals-m3-ultra-taking-apple-silicon-to-a-new-extreme/"
_GB10 = "https://docs.nvidia.com/dgx/dgx-spark/hardware.html"
_SPARK_PEAKS = "1 PFLOP/s of sparse FP4 is 500 dense, 250 in FP8 and 125 in BF16: " + _GB10
# A Mac keeps this for everything else once `iogpu.wired_limit_mb` is raised; without that a quarter is kept.
_MAC_SYSTEM_BYTES = 8 * GIB


def _mac(name: str, chip: str, memory_gib: int, rate: float, peaks: Peaks) -> Hardware:
    total = memory_gib * GIB
    return Hardware(
        name=name,
        title=f"Mac Studio {chip} {memory_gib} GB",
        tiers=(Tier("gpu", total, total - _MAC_SYSTEM_BYTES, rate), _disk(4 * _TB)),
        num_devices=1,
        peaks=peaks,
        source=peaks.source,
        is_unified=True,
        assumes="iogpu.wired_limit_mb raised so that the GPU may use all but 8 GiB; a 4 TB drive, about 6.5 GB/s",
    )


def _unified() -> Iterator[Hardware]:
    m2 = Peaks(27.2e12, None, None, None, f"76 GPU cores, fp16 at the rate of fp32: {_M2_ULTRA}")
    m3 = Peaks(28.2e12, None, None, None, f"80 GPU cores, fp16 at the rate of fp32: {_M3_ULTRA}")
    yield _mac("mac-studio-192", "M2 Ultra", 192, 800e9, m2)
    yield _mac("mac-studio-256", "M3 Ultra", 256, 819e9, m3)
    yield _mac("mac-studio-512", "M3 Ultra", 512, 819e9, m3)
    total = 128 * _GB
    yield Hardware(
        name="dgx-spark",
        title="DGX Spark (GB10)",
        tiers=(Tier("gpu", total, total - 2 * _SYSTEM_BYTES, 273e9), _disk(4 * _TB)),
        num_devices=1,
        peaks=Peaks(125e12, 250e12, 250e12, None, _SPARK_PEAKS),
        source=_GB10,
        is_unified=True,
        assumes="8 GiB for the operating system, which counts its memory in decimal GB; a 4 TB PCIe 4 drive",
    )


def _processors() -> Iterator[Hardware]:
    for name, speed, processor in (
        ("epyc-12ch", 4800, _zen4(64, 3.1e9)),
        ("epyc-12ch-6000", 6000, _twice(_zen4(64, 3.1e9))),
    ):
        rate = 12 * 8 * speed * 1e6
        yield Hardware(
            name=name,
            title=f"EPYC, 12 channels of DDR5-{speed}, 768 GiB",
            tiers=(Tier("ram", 768 * GIB, 768 * GIB - _SYSTEM_BYTES, rate), _disk(4 * _TB)),
            num_devices=1,
            peaks=processor,
            source=f"12 channels x 8 bytes x {speed} MT/s; https://www.amd.com/en/products/processors/server/epyc.html",
            processor=processor,
            assumes="one 64-core processor, memory in one NUMA node, and a 4 TB PCIe 4 drive",
        )
    for memory_gib in (16, 32):
        processor = _zen4(8, 4.0e9)
        yield Hardware(
            name=f"laptop-{memory_gib}",
            title=f"laptop with {memory_gib} GB and no usable GPU",
            tiers=(Tier("ram", memory_gib * GIB, memory_gib * GIB - _SYSTEM_BYTES, 89.6e9), _disk(1 * _TB)),
            num_devices=1,
            peaks=processor,
            source="2 channels x 8 bytes x 5600 MT/s",
            processor=processor,
            assumes="8 Zen 4 cores at 4 GHz, two channels of DDR5-5600 and a 1 TB PCIe 4 drive",
        )


def _twice(peaks: Peaks) -> Peaks:
    """Zen 5 has two such units where Zen 4 has one."""
    int8 = None if peaks.int8_ops is None else 2 * peaks.int8_ops
    return replace(peaks, bf16_flops=2 * peaks.bf16_flops, int8_ops=int8, source=f"Zen 5, twice of: {peaks.source}")


CATALOGUE: Mapping[str, Hardware] = MappingProxyType(
    {hardware.name: hardware for hardware in (*_boxes(), *_unified(), *_processors())}
)
