"""The table of waiting: seconds to the first token by machine and context, cold, from memory and from disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longlens.model.config import ModelConfig
from longlens.plan.chart import Chart, Curve
from longlens.plan.compute_limit import compute_limit_seconds
from longlens.plan.hardware_records import Hardware
from longlens.plan.table import Cell, Column, Table

CONTEXTS = (8192, 32_768, 131_072, 524_288, 1_048_576)


@dataclass(frozen=True)
class Waiting:
    """What is predicted for one machine and context.

    Attributes:
        file_type: the widest file that fits.
        has_weights_on_disk: some of them are read from disk again and again.
        cold_s: every token is read.
        memory_s: all but the question's rows are in memory.
        disk_s: they come from disk; None if the disk's rate is not known.
        decode_tokens_per_s: after the first token.
    """

    file_type: str
    has_weights_on_disk: bool
    cold_s: float
    memory_s: float
    disk_s: float | None
    decode_tokens_per_s: float


Predictor = Callable[[Hardware, int], Waiting | None]


def ttft_table(title: str, config: ModelConfig, machines: Sequence[Hardware], predictor: Predictor) -> Table:
    """Predict the wait for the first token; machines on which nothing fits have no row.

    Contexts beyond the model's own length are left out.
    """
    contexts = [context for context in CONTEXTS if context <= config.max_position_embeddings]
    rows: list[tuple[Cell, ...]] = []
    curves: list[Curve] = []
    for machine in machines:
        points = []
        for context in contexts:
            found = predictor(machine, context)
            if found is None:
                continue
            limit = compute_limit_seconds(config, machine, context)
            times = (found.cold_s, found.memory_s, found.disk_s, limit, found.decode_tokens_per_s)
            file = f"{found.file_type}, partly on disk" if found.has_weights_on_disk else found.file_type
            rows.append((machine.title, context, file, *times))
            points.append((float(context), found.cold_s))
        if points:
            curves.append(Curve(machine.title, tuple(points)))
    return Table(
        "ttft",
        f"{title}: predicted wait for the first token of a prompt that fills the context",
        (
            Column("machine"),
            Column("context", "tokens"),
            Column("file"),
            Column("cold", "seconds"),
            Column("from memory", "seconds"),
            Column("from disk", "seconds"),
            Column("compute limit", "seconds"),
            Column("tokens a second", "tokens/s"),
        ),
        tuple(rows),
        (
            "machines of the catalogue: what good kernels could reach at stated shares of the published peaks",
            "the file is the widest that fits a usual context, in the fastest place that holds one",
            "what starting a kernel costs is not counted, so times of a few milliseconds are too low",
            "from memory and from disk: all rows but those of the question's 128 tokens were kept",
            "compute limit: all operations at the highest published rate; no cold reading is shorter",
        ),
        Chart(f"{title}: cold wait for the first token", "context in tokens", "seconds", tuple(curves))
        if rows
        else None,
    )
