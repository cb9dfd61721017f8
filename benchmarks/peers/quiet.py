"""What a peer reaches when nothing else runs, by machine, model and workload; and when a comparison counts.

A comparison on a busy machine flatters whoever suffers less, and llama.cpp, whose threads wait for each other by
spinning, collapses when a core is taken away. So a peer must reach its own quiet-machine figure, or the ratio to it
is printed and not counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.peers.agreement import Agreement
from benchmarks.peers.timing import Spread, spread_of

LEAST_SHARE, MOST_SHARE = 0.90, 1.15
MOST_QUIET_SPREAD = 0.05
"""A machine whose samples lie further apart than this, quartile to quartile, is not quiet."""


@dataclass(frozen=True)
class Subject:
    """What a figure is about: it is compared with a figure about the same only."""

    machine: str
    model: str
    model_sha256: str
    peer: str
    workload: str


@dataclass(frozen=True)
class QuietFigure:
    """Tokens a second of a peer alone on a quiet machine, with where they come from."""

    subject: Subject
    samples: tuple[float, ...]
    date: str
    settings: dict[str, object]

    @property
    def tokens_per_s(self) -> Spread:
        """Median and quartiles."""
        return spread_of(self.samples)


@dataclass(frozen=True)
class Verdict:
    """Whether a comparison counts; if not, every reason."""

    reasons: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """No reason against it."""
        return not self.reasons


def judge(peer_rate: float, quiet: QuietFigure | None, agreed: Agreement) -> Verdict:
    """Decide whether a comparison counts.

    Args:
        peer_rate: the peer's median in this run, tokens a second.
        quiet: its quiet-machine figure for the same subject, if there is one.
        agreed: of the logits of both sides.
    """
    reasons = []
    if quiet is None:
        reasons.append("no quiet-machine figure of the peer; make one with --record-quiet")
    else:
        share = peer_rate / quiet.tokens_per_s.median
        if share < LEAST_SHARE:
            reasons.append(
                f"the peer reaches {share:.0%} of its quiet-machine figure, at least {LEAST_SHARE:.0%} count"
            )
        if share > MOST_SHARE:
            reasons.append(f"the peer reaches {share:.0%} of its quiet-machine figure: that one was not quiet")
    if not agreed.holds:
        reasons.append(f"the logits differ: top-1 {agreed.top1:.0%}, KL {agreed.mean_kl:.2g}")
    return Verdict(tuple(reasons))


def refusal(figure: QuietFigure) -> str | None:
    """Why a figure was not taken on a quiet machine; None if its samples are at least three and lie together."""
    if len(figure.samples) < 3:
        return "fewer than three samples"
    if figure.tokens_per_s.relative > MOST_QUIET_SPREAD:
        return f"the samples spread by {figure.tokens_per_s.relative:.0%}, at most {MOST_QUIET_SPREAD:.0%} is quiet"
    return None


def find(figures: Iterable[QuietFigure], subject: Subject) -> QuietFigure | None:
    """The figure about a subject."""
    return next((figure for figure in figures if figure.subject == subject), None)


def with_figure(figures: Iterable[QuietFigure], new: QuietFigure) -> list[QuietFigure]:
    """The figures with one more, which takes the place of an older one about the same subject."""
    return [*(figure for figure in figures if figure.subject != new.subject), new]


def read_figures(path: Path) -> list[QuietFigure]:
    """The figures of a file; none if there is no file."""
    if not path.exists():
        return []
    entries = json.loads(path.read_text())
    return [
        QuietFigure(Subject(**entry["subject"]), tuple(entry["samples"]), entry["date"], entry["settings"])
        for entry in entries
    ]


def write_figures(path: Path, figures: Iterable[QuietFigure]) -> None:
    """Write a file that `read_figures` reads."""
    entries = [asdict(figure) for figure in figures]
    path.write_text(json.dumps(entries, indent=1) + "\n")
