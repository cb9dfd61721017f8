"""The hardware matrix: which machine holds which file, at which context, and what lies where. Nothing is typed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from longlens.plan.hardware_records import Hardware
from longlens.plan.table import Cell, Column, Table, format_tokens

# What is asked of a machine to be called the least, the recommended one, and a node for many at full length.
LEAST_CONTEXT, GOOD_CONTEXT = 32_768, 131_072
_NARROW = frozenset({"q6_k", "q5_k_m", "q4_k_m", "q4_0"})


@dataclass(frozen=True)
class Fit:
    """How a file of a model lies on a machine at a context.

    Attributes:
        most_context: the longest context that fits; 0 if none does.
        fits: the context that was asked for has room.
        gpu_bytes: in the memory of the devices, or in the one memory of a unified machine.
        ram_bytes: beside them.
        disk_bytes: read from disk again and again.
        not_built: why longlens cannot run it yet; empty if it can.
    """

    most_context: int
    fits: bool = False
    gpu_bytes: int = 0
    ram_bytes: int = 0
    disk_bytes: int = 0
    not_built: tuple[str, ...] = ()


Fitter = Callable[[Hardware, str, int], Fit]


@dataclass(frozen=True)
class Role:
    """The smallest machine that does what a role asks for.

    Attributes:
        name: "minimum", "recommended" or "node".
        asks: in words.
        hardware: the machine; None if none of the catalogue does it.
        file_type: with which file.
    """

    name: str
    asks: str
    hardware: Hardware | None
    file_type: str = ""


@dataclass(frozen=True)
class Matrix:
    """What is placed on which machines.

    Attributes:
        title: of the model.
        longest: context of the model.
        file_types: of its files, the widest first.
        machines: of the catalogue.
        fit: places a file on a machine at a context.
    """

    title: str
    longest: int
    file_types: tuple[str, ...]
    machines: tuple[Hardware, ...]
    fit: Fitter


def hardware_table(matrix: Matrix) -> Table:
    """Every machine with every file type: does it fit, at which context, and what lies where."""
    context = min(GOOD_CONTEXT, matrix.longest)
    rows = tuple(_row(machine, kind, matrix.fit, context) for machine in matrix.machines for kind in matrix.file_types)
    return Table(
        "hardware",
        f"{matrix.title}: which machine holds which file, and how much context beside it",
        (
            Column("machine"),
            Column("file"),
            Column("fits"),
            Column("longest context", "tokens"),
            Column("at a context of", "tokens"),
            Column("in GPU memory", "bytes"),
            Column("in RAM", "bytes"),
            Column("on disk", "bytes"),
            Column("runs in longlens"),
        ),
        rows,
        (*(_role_note(role) for role in find_roles(matrix)), *_NOTES),
    )


@dataclass(frozen=True)
class _Wish:
    """What a role asks for; machines are looked at by size, the smallest first."""

    name: str
    asks: str
    context: int
    file_types: tuple[str, ...]
    size: Callable[[Hardware], int]
    is_enough: Callable[[Fit], bool]


def find_roles(matrix: Matrix) -> tuple[Role, ...]:
    """The smallest machine for each role, with its widest file; disks are no memory."""
    fast, in_memory = "everything in GPU memory", _is_whole_in_fast_memory
    wide = tuple(kind for kind in matrix.file_types if kind not in _NARROW)
    least, good = min(LEAST_CONTEXT, matrix.longest), min(GOOD_CONTEXT, matrix.longest)
    wishes = (
        _Wish("minimum", "no weights read from disk", least, matrix.file_types, memory_bytes, _is_without_disk),
        _Wish("recommended", fast, good, matrix.file_types, gpu_bytes, in_memory),
        _Wish("node", f"{fast}, no weights narrower than 8 bits", matrix.longest, wide, gpu_bytes, in_memory),
    )
    return tuple(_role(matrix, wish) for wish in wishes)


def _role(matrix: Matrix, wish: _Wish) -> Role:
    asks = f"{format_tokens(wish.context)} of context, {wish.asks}"
    # From the smallest up, so that the first one that does is the answer and the rest need not be placed.
    for machine in sorted(matrix.machines, key=wish.size):
        for kind in wish.file_types:
            found = matrix.fit(machine, kind, wish.context)
            if found.fits and wish.is_enough(found):
                return Role(wish.name, asks, machine, kind)
    return Role(wish.name, asks, None)


def _is_without_disk(found: Fit) -> bool:
    return not found.disk_bytes


def _is_whole_in_fast_memory(found: Fit) -> bool:
    return found.ram_bytes == found.disk_bytes == 0 and found.gpu_bytes > 0


def memory_bytes(hardware: Hardware) -> int:
    """GPU memory and RAM together; unified memory is one tier and counts once."""
    return sum(tier.total_bytes for tier in hardware.tiers if tier.name != "disk")


def gpu_bytes(hardware: Hardware) -> int:
    """Memory of all devices together; 0 without one."""
    tier = hardware.tier("gpu")
    return 0 if tier is None else tier.total_bytes


def _role_note(role: Role) -> str:
    if role.hardware is None:
        return f"{role.name} ({role.asks}): no machine of the catalogue; several machines: longlens plan --advise"
    return f"{role.name} ({role.asks}): {role.hardware.title} with {role.file_type}"


def _row(machine: Hardware, kind: str, fit: Fitter, context: int) -> tuple[Cell, ...]:
    found = fit(machine, kind, context)
    if found.most_context == 0:
        return (machine.title, kind, "no", None, None, None, None, None, None)
    if not found.fits:
        context = found.most_context
        found = fit(machine, kind, context)
    return (
        machine.title,
        kind,
        "yes" if not found.disk_bytes else "with weights on disk",
        found.most_context,
        context,
        found.gpu_bytes,
        found.ram_bytes,
        found.disk_bytes,
        "yes" if not found.not_built else f"not yet: {found.not_built[0]}",
    )


_NOTES = (
    "one sequence; bytes are those of weights, cache and scratch at the context that the row names",
    "several devices share the layers; unified memory counts as GPU memory, once",
)
