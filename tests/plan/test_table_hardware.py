from __future__ import annotations

from dataclasses import replace

from longlens.plan.hardware import HARDWARE, Hardware
from longlens.plan.table_hardware import Fit, Matrix, find_roles, gpu_bytes, hardware_table, memory_bytes
from longlens.units import GIB, KIB

MILLION = 1_048_576
FILE_TYPES = ("fp8", "q8_0", "q4_k_m")
MACHINES = tuple(HARDWARE[name] for name in ("laptop-16", "rtx-4090", "mac-studio-512", "h200-x8"))


def fit(hardware: Hardware, file_type: str, context: int) -> Fit:
    """A laptop reads from disk, a card moves experts to RAM, the large ones hold everything."""
    if hardware.name == "laptop-16":
        return Fit(65_536, context <= 65_536, ram_bytes=12 * GIB, disk_bytes=400 * GIB)
    if hardware.name == "rtx-4090":
        held = Fit(65_536, context <= 65_536, 20 * GIB, 90 * GIB, not_built=("experts in RAM",))
        return held if file_type == "q4_k_m" else Fit(0)
    if hardware.name == "mac-studio-512":
        return Fit(MILLION, True, context * KIB) if file_type == "q4_k_m" else Fit(0)
    return Fit(MILLION, True, 900 * GIB)


MATRIX = Matrix("GLM", MILLION, FILE_TYPES, MACHINES, fit)


def test_every_machine_has_a_row_for_every_file() -> None:
    rows = hardware_table(MATRIX).as_json()["rows"]
    assert [(row["machine"], row["file"]) for row in rows] == [  # type: ignore[attr-defined]
        (machine.title, kind) for machine in MACHINES for kind in FILE_TYPES
    ]


def test_a_row_says_whether_it_fits_where_things_lie_and_whether_it_runs() -> None:
    rows = hardware_table(MATRIX).rows
    by = {(row[0], row[1]): row[2:] for row in rows}
    assert by["RTX 4090", "q4_k_m"] == (
        *("yes", 65_536, 65_536, 20 * GIB, 90 * GIB, 0),
        "not yet: experts in RAM",
    ), "128K do not fit: the row is that of the longest context that does"
    assert by["RTX 4090", "q8_0"] == ("no", None, None, None, None, None, None)
    assert by[MACHINES[0].title, "q8_0"][0] == "with weights on disk"
    assert by[MACHINES[3].title, "fp8"] == ("yes", MILLION, 131_072, 900 * GIB, 0, 0, "yes")


def test_roles_are_the_smallest_machines_that_do() -> None:
    least, good, node = find_roles(MATRIX)
    assert (least.hardware, least.file_type) == (HARDWARE["rtx-4090"], "q4_k_m"), "the laptop reads from disk"
    assert (good.hardware, good.file_type) == (HARDWARE["mac-studio-512"], "q4_k_m")
    assert (node.hardware, node.file_type) == (HARDWARE["h200-x8"], "fp8"), "4-bit weights are no node"


def test_a_role_that_no_machine_fills_leads_to_several() -> None:
    table = hardware_table(replace(MATRIX, machines=MACHINES[:1]))
    assert sum("no machine of the catalogue; several machines" in note for note in table.notes) == 3
    text = hardware_table(MATRIX).as_text()
    assert "recommended (128K of context, everything in GPU memory): Mac Studio" in text


def test_a_short_model_is_asked_for_no_more_than_it_reads() -> None:
    roles = find_roles(replace(MATRIX, longest=8192))
    assert all("8K of context" in role.asks for role in roles)


def test_machines_for_gpu_memory_are_compared_by_it_alone() -> None:
    def everywhere(hardware: Hardware, file_type: str, context: int) -> Fit:
        return Fit(MILLION, True, 20 * GIB) if gpu_bytes(hardware) else Fit(MILLION, True, ram_bytes=20 * GIB)

    least, good, node = find_roles(replace(MATRIX, machines=(*MACHINES, HARDWARE["dgx-spark"]), fit=everywhere))
    assert least.hardware == HARDWARE["laptop-16"]
    assert good.hardware == node.hardware == HARDWARE["rtx-4090"], "128 GB of a DGX Spark are less than card and host"


def test_unified_memory_counts_once_and_disks_not() -> None:
    assert memory_bytes(HARDWARE["mac-studio-512"]) == 512 * GIB
    laptop = HARDWARE["laptop-16"].tier("ram")
    assert laptop is not None
    assert memory_bytes(HARDWARE["laptop-16"]) == laptop.total_bytes
