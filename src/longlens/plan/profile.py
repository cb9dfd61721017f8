"""What a machine can do in a second: measured once by `bench/probe.py`, or derived from published peaks.

A profile is dated and kept in the cache folder. What cannot be read, or was written by something else, is an error
with a mend; nothing is guessed in its place.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from longlens.errors import FormatError, UsageError
from longlens.plan.rates import Curve, LimitRates, PlainRates, ProductGrid

if TYPE_CHECKING:
    from longlens.plan.hardware_records import Hardware

PROFILE_VERSION = 2
_KIND = "longlens machine profile"
_MEND = "delete it and measure the machine again"


@dataclass(frozen=True)
class Efficiency:
    """How much of a published peak good kernels reach, and who says so."""

    share: float
    source: str


# Of the 8-bit peak where a device has one (fp8 or int8), else of the bf16 peak.
LINEAR = Efficiency(
    0.70, "DeepGEMM fp8 GEMM reaches 78 % of 1,979 TFLOP/s (its README); small chunks and norms cost the rest"
)
INDEXER = Efficiency(0.45, "DeepGEMM fp8 index logits, 881-902 TFLOP/s on one H100, measured")
# 80 % of the 798 TFLOP/s that an H100 keeps up under load, of 989 published.
ATTENTION = Efficiency(0.80 * 798 / 989, "FlashMLA sparse prefill, 640 TFLOP/s (its README), 64 heads 500-529 measured")
READ = Efficiency(0.75, "whole-step decode graphs reach 75-80 % of bandwidth; AVX-512 products of one row 77-89 %")


@dataclass(frozen=True)
class MachineProfile:
    """Rates of one machine and one device.

    Attributes:
        machine: processor, graphics processor or catalogue entry.
        date: of the measurement, or of the catalogue; ISO 8601.
        device: "cpu" or "cuda".
        num_threads: threads that the measurement used; 0 if it is none.
        source: what measured it, or "published, not measured" and where.
        rates: measured times of plain torch, or limits.
        disk_read_bytes_per_s: of the disk that holds the cache; None if nothing is known.
        disk_write_bytes_per_s: likewise.
        link_bytes_per_s: between memory and the device, one way; None without a GPU.
        stolen_share: part of the measurement's wall time in which the processor was taken away; None if not measured.
    """

    machine: str
    date: str
    device: str
    num_threads: int
    source: str
    rates: PlainRates | LimitRates
    disk_read_bytes_per_s: float | None = None
    disk_write_bytes_per_s: float | None = None
    link_bytes_per_s: float | None = None
    stolen_share: float | None = None

    @property
    def kernels(self) -> Literal["plain torch", "limit"]:
        """Which kernels a prediction from it stands for."""
        return "plain torch" if isinstance(self.rates, PlainRates) else "limit"

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps, with kind and version."""
        return {"kind": _KIND, "version": PROFILE_VERSION, "kernels": self.kernels, **asdict(self)}


def profile_path(cache_folder: Path, device: str = "cpu") -> Path:
    """Where the profile of a device is kept; all CUDA devices of a machine share one."""
    return cache_folder / f"machine-profile-{device.partition(':')[0]}.json"


def write_profile(path: Path, profile: MachineProfile) -> None:
    """Write a profile, whole or not at all; the folder is made if it is missing, for this user only.

    Raises:
        UsageError: the file cannot be written.
    """
    text = json.dumps(profile.as_json(), indent=1) + "\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(
            f"the profile {path} cannot be written: {error.strerror}", "name a folder to write to with --cache-dir"
        ) from error


def read_profile(path: Path) -> MachineProfile:
    """Read a profile that `write_profile` wrote.

    Raises:
        FormatError: there is none, it cannot be read, it is something else, or of another version.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise FormatError(
            f"the machine profile {path} cannot be read: {error.strerror}", "measure the machine"
        ) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the machine profile {path} is not JSON", _MEND) from error
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise FormatError(f"{path} is not a machine profile", _MEND)
    if document.get("version") != PROFILE_VERSION:
        raise FormatError(
            f"the machine profile {path} has version {document.get('version')!r}, this is {PROFILE_VERSION}", _MEND
        )
    try:
        return _profile(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"the machine profile {path} lacks or garbles a field ({error})", _MEND) from error
    except FormatError as error:
        raise FormatError(f"the machine profile {path}: {error.fault}", _MEND) from error


def profile_of_hardware(hardware: Hardware) -> MachineProfile:
    """Derive what good kernels could reach on a catalogue entry: published peaks times stated efficiencies.

    Raises:
        UsageError: the entry states no peaks.
    """
    peaks = hardware.peaks
    if peaks is None:
        raise UsageError(f"no published peaks of {hardware.name} are known", "measure the machine to predict its times")
    eight_bit = max(peaks.fp8_flops or 0.0, peaks.int8_ops or 0.0, peaks.bf16_flops)
    read: dict[str, float] = {
        tier.name: READ.share * tier.read_bytes_per_s for tier in hardware.tiers if tier.read_bytes_per_s
    }
    return MachineProfile(
        machine=hardware.title,
        date="",
        device="cuda" if any(tier.name == "gpu" for tier in hardware.tiers) else "cpu",
        num_threads=0,
        source=f"published, not measured: {hardware.source}",
        rates=LimitRates(
            linear_flops=LINEAR.share * eight_bit * hardware.num_devices,
            indexer_flops=INDEXER.share * eight_bit * hardware.num_devices,
            attention_flops=ATTENTION.share * peaks.bf16_flops * hardware.num_devices,
            read_bytes_per_s=read,
        ),
        disk_read_bytes_per_s=read.get("disk"),
        link_bytes_per_s=peaks.link_bytes_per_s,
    )


def _profile(document: Mapping[str, object]) -> MachineProfile:
    values = {field.name: document[field.name] for field in fields(MachineProfile) if field.name != "rates"}
    for name in ("machine", "date", "device", "source"):
        if not isinstance(values[name], str):
            raise TypeError(name)
    for name in ("disk_read_bytes_per_s", "disk_write_bytes_per_s", "link_bytes_per_s", "stolen_share"):
        if values[name] is not None:
            _positive(values[name], name, allows_zero=name == "stolen_share")
    if not isinstance(values["num_threads"], int):
        raise TypeError("num_threads")
    raw = document["rates"]
    rates = _plain_rates(raw) if document["kernels"] == "plain torch" else _limit_rates(raw)
    return MachineProfile(rates=rates, **values)  # type: ignore[arg-type]


def _plain_rates(raw: object) -> PlainRates:
    table = _table(raw)
    return PlainRates(
        weights={name: _grid(grid) for name, grid in _table(table["weights"]).items()},
        batched=_grid(table["batched"]),
        sweeps={name: _curve(curve) for name, curve in _table(table["sweeps"]).items()},
        call_s=_positive(table["call_s"], "call_s"),
        view_s=_positive(table["view_s"], "view_s"),
    )


def _limit_rates(raw: object) -> LimitRates:
    table = _table(raw)
    reads = {name: _positive(rate, name) for name, rate in _table(table["read_bytes_per_s"]).items()}
    flops = {name: _positive(table[name], name) for name in ("linear_flops", "indexer_flops", "attention_flops")}
    return LimitRates(**flops, read_bytes_per_s=reads)


def _grid(raw: object) -> ProductGrid:
    table = _table(raw)
    return ProductGrid(*(_numbers(table[name]) for name in ("rows", "inner", "outer", "seconds")))


def _curve(raw: object) -> Curve:
    table = _table(raw)
    return Curve(_numbers(table["sizes"]), _numbers(table["seconds"]))


def _table(raw: object) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise TypeError("a table is missing")
    return raw


def _numbers(raw: object) -> tuple[float, ...]:
    if not isinstance(raw, list):
        raise TypeError("a list of numbers is missing")
    return tuple(float(value) for value in raw)


def _positive(raw: object, name: str, *, allows_zero: bool = False) -> float:
    number = raw if isinstance(raw, int | float) and not isinstance(raw, bool) else math.nan
    if not (0 <= number < math.inf) or (number == 0 and not allows_zero):
        raise ValueError(name)
    return float(number)
