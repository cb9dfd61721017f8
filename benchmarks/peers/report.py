"""What a comparison prints, and the record that it leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.peers import timing
from benchmarks.peers.agreement import Agreement
from benchmarks.peers.quiet import QuietFigure, Verdict, judge
from benchmarks.peers.timing import Sample
from benchmarks.peers.workload import NUM_THREADS, Workload


@dataclass(frozen=True)
class Header:
    """What a record says about itself."""

    what: str
    date: str
    commit: str
    machine: str
    command: str


@dataclass(frozen=True)
class Result:
    """Both sides of one workload."""

    workload: Workload
    ours: Sequence[Sample]
    theirs: Sequence[Sample]
    agreed: Agreement
    quiet: QuietFigure | None

    @property
    def verdict(self) -> Verdict:
        """Whether it counts."""
        return judge(timing.rates(self.theirs, self.workload.num_tokens).median, self.quiet, self.agreed)

    def line(self) -> str:
        """One line for people; the reasons why it does not count below it."""
        times = timing.ratio(self.ours, self.theirs)
        parts = [
            f"{self.workload.name:<16}",
            f"ours {self._side(self.ours)}",
            f"peer {self._side(self.theirs)}",
            f"ratio {times.median:.2f} ({times.low:.2f} to {times.high:.2f})",
            f"top-1 {self.agreed.top1:.0%}, KL {self.agreed.mean_kl:.1e} over {self.agreed.num_positions}",
            "counts" if self.verdict.counts else "not counted",
        ]
        return "\n    ".join([" | ".join(parts), *self.verdict.reasons])

    def _side(self, samples: Sequence[Sample]) -> str:
        rate = timing.rates(samples, self.workload.num_tokens)
        wall = timing.spread_of([sample.wall_s for sample in samples]).median
        cpu = timing.spread_of([sample.cpu_s for sample in samples]).median
        return f"{rate.median:8.1f} tok/s ±{rate.relative / 2:.0%}, {wall:.3f} s, CPU {cpu:.3f} s"

    def as_json(self) -> dict[str, object]:
        """For the record, raw samples included."""
        return {
            "workload": self.workload.name,
            "ubatch_tokens": self.workload.ubatch_tokens,
            "longlens": _side(self.ours, self.workload.num_tokens),
            "peer": _side(self.theirs, self.workload.num_tokens),
            "ratio": asdict(timing.ratio(self.ours, self.theirs))
            | {"samples": [peer.wall_s / own.wall_s for own, peer in zip(self.ours, self.theirs, strict=True)]},
            "agreement": asdict(self.agreed),
            "quiet_tokens_per_s": None if self.quiet is None else self.quiet.tokens_per_s.median,
            "counts": self.verdict.counts,
            "not_counted_because": list(self.verdict.reasons),
        }


def record(
    header: Header, settings: Mapping[str, object], token_ids: Sequence[int], results: Sequence[object]
) -> dict[str, object]:
    """The object of a record."""
    digest = hashlib.sha256(json.dumps(list(token_ids)).encode()).hexdigest()[:16]
    return {
        **asdict(header),
        "num_threads": NUM_THREADS,
        "token_ids_sha256": digest,
        "settings": dict(settings),
        "results": list(results),
    }


def write(path: Path, result: dict[str, object]) -> None:
    """Write a new record.

    Raises:
        FileExistsError: records are added, never edited.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x") as file:
        file.write(json.dumps(result, indent=1) + "\n")


def _side(samples: Sequence[Sample], num_tokens: int) -> dict[str, object]:
    rate = timing.rates(samples, num_tokens)
    return {
        "median_tokens_per_s": rate.median,
        "quartiles_tokens_per_s": [rate.low, rate.high],
        "busy_threads": timing.busy_threads(samples),
        "samples": [asdict(sample) for sample in samples],
    }
