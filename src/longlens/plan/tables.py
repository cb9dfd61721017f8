"""Every table by name. All figures are derived from a model's geometry and the machines of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType

from longlens.errors import UsageError
from longlens.plan.article import ARTICLE_MODEL, article_notes, article_table
from longlens.plan.file_types import stored_bytes
from longlens.plan.hardware import HARDWARE
from longlens.plan.local_run import fit_on, waiting_on
from longlens.plan.presets import MODEL_PRESETS, ModelPreset, find_preset
from longlens.plan.table import Table
from longlens.plan.table_flops import flops_table
from longlens.plan.table_hardware import Matrix, hardware_table
from longlens.plan.table_kv import kv_table
from longlens.plan.table_ttft import ttft_table
from longlens.units import GIB

DEFAULT_MODEL = "glm-5.2"
LARGE_MODEL_BYTES = 48 * GIB


def make_table(name: str, model: ModelPreset | str = DEFAULT_MODEL) -> Table:
    """Make a table for a model.

    Beside the geometry of the article, its own figures are told with the reason of each difference.

    Args:
        name: one of `TABLES`.
        model: a preset, or the name of one.

    Raises:
        UsageError: no such table or preset; the nearest names are given.
    """
    if name not in TABLES:
        raise UsageError(f"{name!r} is not a table", _nearest(name, TABLES))
    preset = named_preset(model) if isinstance(model, str) else model
    table = TABLES[name](preset)
    notes = article_notes(name) if preset.name == ARTICLE_MODEL else ()
    return replace(table, notes=(*((preset.note,) if preset.note else ()), *table.notes, *notes))


def named_preset(name: str) -> ModelPreset:
    """Find a preset.

    Raises:
        UsageError: no such preset; the nearest names are given.
    """
    preset = find_preset(name)
    if preset is None:
        raise UsageError(f"{name!r} is not a model that is known by name", _nearest(name, MODEL_PRESETS))
    return preset


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name.lower(), known, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"choose {', '.join(known)}"


def _hardware(preset: ModelPreset) -> Table:
    # Files as they are published: large models as block FP8, small ones as they were trained.
    is_large = sum(stored_bytes(preset.config, "bf16").values()) > LARGE_MODEL_BYTES
    widest = "fp8" if is_large else "bf16"
    machines = tuple(HARDWARE.values())
    longest = preset.config.max_position_embeddings
    matrix = Matrix(preset.title, longest, (widest, "q8_0", "q4_k_m"), machines, partial(fit_on, preset))
    return hardware_table(matrix)


def _ttft(preset: ModelPreset) -> Table:
    machines = tuple(HARDWARE.values())
    return ttft_table(preset.title, preset.config, machines, partial(waiting_on, preset))


TableMaker = Callable[[ModelPreset], Table]
TABLES: Mapping[str, TableMaker] = MappingProxyType(
    {
        "flops": lambda preset: flops_table(preset.title, preset.config),
        "kv": lambda preset: kv_table(preset.title, preset.config),
        "hardware": _hardware,
        "ttft": _ttft,
        "article": lambda _: article_table(),
    }
)
