"""A figure: what was measured, several times over, and what a reader must know to believe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

from longlens.errors import FormatError

LEAST_SAMPLES = 5


@dataclass(frozen=True)
class Sample:
    """One repetition.

    Attributes:
        value: in the figure's unit.
        wall_s: seconds that the measured part took.
        cpu_s: seconds of processor time of all threads in it.
    """

    value: float
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class MemoryUse:
    """Memory of the process; None where the operating system or the device does not say.

    Attributes:
        peak_rss_bytes: most that was resident (VmHWM), mapped files included, since the model was about to be opened;
            for attention alone, since its figure was begun.
        anonymous_bytes: resident and in no file (RssAnon), as the last repetition ended.
        device_bytes: most that torch had allocated on a graphics processor.
    """

    peak_rss_bytes: int | None
    anonymous_bytes: int | None
    device_bytes: int | None = None


@dataclass(frozen=True)
class Figure:
    """A measured figure.

    Attributes:
        name: such as `pp512 @ d4096`.
        kind: the part of the name that figures of one curve share, such as `pp512`.
        depth: tokens in the cache before.
        unit: of the values; "tok/s" (more is better), "s" and "ms" (less is better).
        label: state of the cache: cold, warm, after restart.
        cached_tokens: what the engine's record said of it, the same in every repetition.
        read_tokens: tokens that were computed before the first new one.
        digest: of the greedy tokens, the same in every repetition.
        samples: all repetitions, in order.
        memory: after the last one.
    """

    name: str
    kind: str
    depth: int
    unit: str
    label: str
    cached_tokens: int
    read_tokens: int
    digest: str
    samples: tuple[Sample, ...]
    memory: MemoryUse

    @property
    def values(self) -> list[float]:
        """Values of all samples."""
        return [sample.value for sample in self.samples]

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    @property
    def deviation(self) -> float:
        """Median distance of the samples from their median: a spread that one disturbed sample does not move."""
        return median(abs(value - self.median) for value in self.values)

    @property
    def cpu_per_wall(self) -> float:
        """Cores kept busy; below the number of threads, waiting or a core that was taken away."""
        return sum(sample.cpu_s for sample in self.samples) / max(sum(sample.wall_s for sample in self.samples), 1e-12)

    @property
    def is_more_better(self) -> bool:
        """Whether a larger value is the faster one."""
        return self.unit == "tok/s"

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps; what follows from the samples is written out for readers."""
        return {
            "name": self.name,
            "kind": self.kind,
            "depth": self.depth,
            "label": self.label,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "mad": self.deviation,
            "cpu_per_wall": self.cpu_per_wall,
            "values": self.values,
            "wall_s": [sample.wall_s for sample in self.samples],
            "cpu_s": [sample.cpu_s for sample in self.samples],
            "cached_tokens": self.cached_tokens,
            "read_tokens": self.read_tokens,
            "digest": self.digest,
            **{field.name: getattr(self.memory, field.name) for field in fields(MemoryUse)},
        }


def figure_from_json(content: Mapping[str, Any]) -> Figure:
    """Read what `as_json` wrote; what follows from the samples is computed again.

    Raises:
        FormatError: a field is missing or of another kind.
    """
    try:
        columns = (content["values"], content["wall_s"], content["cpu_s"])
        samples = tuple(Sample(float(v), float(w), float(c)) for v, w, c in zip(*columns, strict=True))
        figure = Figure(
            name=_text(content, "name"),
            kind=_text(content, "kind"),
            depth=int(content["depth"]),
            unit=_text(content, "unit"),
            label=_text(content, "label"),
            cached_tokens=int(content["cached_tokens"]),
            read_tokens=int(content["read_tokens"]),
            digest=_text(content, "digest"),
            samples=samples,
            memory=MemoryUse(*(content.get(field.name) for field in fields(MemoryUse))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"a figure of the record is damaged: {error}", "give a file that bench has written") from None
    if not samples:
        raise FormatError(f"the figure {figure.name} has no samples", "give a file that bench has written")
    return figure


def curves(figures: Sequence[Figure]) -> dict[tuple[str, str], list[Figure]]:
    """Figures of one kind and unit together, by depth."""
    found: dict[tuple[str, str], list[Figure]] = {}
    for figure in sorted(figures, key=lambda each: each.depth):
        found.setdefault((figure.kind, figure.unit), []).append(figure)
    return found


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is {value!r}")
    return value
