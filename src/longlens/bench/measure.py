"""Measuring through the real engine: a prefix is read once, every repetition forks it, and the cache confirms it.

What is timed is what a caller waits for: `extend` for prefill, the time between token events for decode. A repetition
counts only if the engine's own record agrees with the label (cold: nothing was cached; warm: the whole prefix was) and
if its greedy tokens are those of every other repetition.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch

from longlens.bench.figure import Figure, Sample
from longlens.bench.process_memory import memory_use
from longlens.bench.workload import GATE_TOKENS, Label, Workload
from longlens.engine.engine import Engine
from longlens.engine.events import TokenEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import CancelFlag
from longlens.engine.session import EngineSession
from longlens.engine.turn_record import TurnRecord
from longlens.errors import CancelledError, ContextLengthError, LonglensError, UsageError


@dataclass(frozen=True)
class Clock:
    """Where time comes from: seconds of the wall, and of the processor over all threads."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time


@dataclass(frozen=True)
class Measuring:
    """How figures are taken.

    Attributes:
        repetitions: samples of each figure.
        seed: of the token ids that are read.
        label: what the caller claims of the cache; None leaves it to the workload's depth.
        warms_up: run each workload once before it is timed.
        cancel: raise it to stop.
        on_step: told what is about to be done.
        clock: where time comes from.
    """

    repetitions: int
    seed: int = 0
    label: Label | None = None
    warms_up: bool = True
    cancel: CancelFlag = field(default_factory=CancelFlag)
    on_step: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        if self.repetitions < 1:
            raise UsageError(f"{self.repetitions} repetitions measure nothing", "ask for at least one")
        if self.label == "after restart":
            raise UsageError(
                'nothing can be measured "after restart" yet: the cache is not kept on disk',
                'measure "cold" or "warm"',
            )


@dataclass(frozen=True)
class _Run:
    """One repetition: its times, its tokens, and what the engine wrote down about it."""

    sample: Sample
    token_ids: tuple[int, ...]
    record: TurnRecord


def measure(engine: Engine, vocab_size: int, workloads: Sequence[Workload], measuring: Measuring) -> Iterator[Figure]:
    """Take figures, one after the other, as they are asked for.

    Args:
        engine: with a context that holds every workload (`workload.needed_context`).
        vocab_size: of its model; random tokens are read.
        workloads: taken by rising depth, so that each token of the prefix is read once.
        measuring: how.

    Raises:
        LonglensError: the cache disagrees with the label, or two repetitions wrote different tokens.
        ContextLengthError: a workload does not fit the context; nothing was measured then.
        CancelledError: `measuring.cancel` was raised.
    """
    longest = max((workload.most_tokens for workload in workloads), default=0)
    if longest > engine.limits.max_context:
        raise ContextLengthError(
            f"{longest} tokens of depth, prompt and answer do not fit a context of {engine.limits.max_context}",
            f"give -c {longest}, or leave it out",
        )
    generator = torch.Generator().manual_seed(measuring.seed)
    token_ids = torch.randint(0, vocab_size, (longest,), generator=generator).tolist()
    return _measure(engine, token_ids, sorted(workloads, key=lambda each: each.depth), measuring)


def _measure(
    engine: Engine, token_ids: list[int], workloads: Sequence[Workload], measuring: Measuring
) -> Iterator[Figure]:
    with engine.session() as prefix:
        for workload in workloads:
            if workload.depth > len(prefix.tokens):
                measuring.on_step(f"reading a prefix of {workload.depth} tokens")
                prefix.extend(token_ids[len(prefix.tokens) : workload.depth], cancel=measuring.cancel)
            yield _figure(engine, prefix, token_ids[workload.depth :], workload, measuring)


def _figure(
    engine: Engine, prefix: EngineSession, token_ids: list[int], workload: Workload, measuring: Measuring
) -> Figure:
    runs: list[_Run] = []
    label = measuring.label or workload.label
    measuring.on_step(f"measuring {workload.name}, {label}, {measuring.repetitions} times")
    for _ in range(measuring.repetitions + int(measuring.warms_up)):
        with prefix.fork() as session:
            run = _RUNNERS[workload.kind](session, token_ids, workload, measuring)
        check_label(label, workload, run.record)
        runs.append(run)
    check_same_tokens(workload.name, [run.token_ids for run in runs])
    timed = runs[int(measuring.warms_up) :]
    return Figure(
        name=workload.name,
        kind=Workload(workload.kind, workload.prompt_tokens, workload.new_tokens).name,
        depth=workload.depth,
        unit="s" if workload.kind == "ttft" else "tok/s",
        label=label,
        cached_tokens=timed[0].record.cached_tokens,
        read_tokens=timed[0].record.read_tokens,
        digest=token_digest(timed[0].token_ids),
        samples=tuple(run.sample for run in timed),
        memory=memory_use(engine.pool.device),
    )


def check_label(label: Label, workload: Workload, record: TurnRecord) -> None:
    """Hold a label against what the engine wrote down about a turn.

    Raises:
        LonglensError: "cold", but rows were cached; "warm", but none were, or only a part of the prefix was.
    """
    cached, name = record.cached_tokens, workload.name
    if label == "cold" and cached:
        raise LonglensError(
            f'{name} is not "cold": {cached} tokens were cached', 'call it "warm", or measure it at depth 0'
        )
    if label != "cold" and (cached == 0 or cached < workload.depth):
        raise LonglensError(
            f'{name} is not "{label}": {cached} of {workload.depth} tokens before it were cached',
            'call it "cold", or give it a depth (-d) that the cache holds',
        )


def check_same_tokens(name: str, runs: Sequence[tuple[int, ...]]) -> None:
    """Refuse a figure whose repetitions did not compute the same.

    Raises:
        LonglensError: two of them wrote different greedy tokens.
    """
    if len(set(runs)) > 1:
        raise LonglensError(
            f"{name} is refused: its repetitions wrote different tokens",
            "greedy tokens of one prompt cannot differ on one machine; a kernel or the memory is at fault",
        )


def token_digest(token_ids: Sequence[int]) -> str:
    """Sixteen hexadecimal digits that stand for a run of tokens."""
    data = b"".join(token_id.to_bytes(4, "little") for token_id in token_ids)
    return hashlib.sha256(data).hexdigest()[:16]


class _Stopwatch:
    """Wall and processor seconds since it was made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._cpu = clock.wall(), clock.cpu()

    def read(self) -> tuple[float, float]:
        return self._clock.wall() - self._wall, self._clock.cpu() - self._cpu


def _time_prefill(session: EngineSession, token_ids: list[int], workload: Workload, measuring: Measuring) -> _Run:
    watch = _Stopwatch(measuring.clock)
    session.extend(token_ids[: workload.prompt_tokens], cancel=measuring.cancel)
    wall_s, cpu_s = watch.read()
    written, record = _write(session, GATE_TOKENS, measuring)
    return _Run(Sample(workload.prompt_tokens / wall_s, wall_s, cpu_s), written, record)


def _time_first_token(session: EngineSession, token_ids: list[int], workload: Workload, measuring: Measuring) -> _Run:
    times: list[tuple[float, float]] = []
    watch = _Stopwatch(measuring.clock)
    session.extend(token_ids[: workload.prompt_tokens], cancel=measuring.cancel)
    written, record = _write(session, GATE_TOKENS, measuring, on_token=lambda: times.append(watch.read()))
    wall_s, cpu_s = times[0]
    return _Run(Sample(wall_s, wall_s, cpu_s), written, record)


def _time_decode(session: EngineSession, token_ids: list[int], workload: Workload, measuring: Measuring) -> _Run:
    """Time the steps between the first token and the last: as many as `new_tokens`, each with its sampling."""
    if not session.tokens:
        session.extend(token_ids[:1], cancel=measuring.cancel)  # decode has to begin behind something
    times: list[tuple[float, float]] = []
    watch = _Stopwatch(measuring.clock)
    written, record = _write(session, workload.new_tokens + 1, measuring, on_token=lambda: times.append(watch.read()))
    wall_s, cpu_s = times[-1][0] - times[0][0], times[-1][1] - times[0][1]
    return _Run(Sample(workload.new_tokens / wall_s, wall_s, cpu_s), written, record)


def _time_both(session: EngineSession, token_ids: list[int], workload: Workload, measuring: Measuring) -> _Run:
    """Time prefill and as many decode steps as `new_tokens`; the last of them yields one token more."""
    times: list[tuple[float, float]] = []
    watch = _Stopwatch(measuring.clock)
    session.extend(token_ids[: workload.prompt_tokens], cancel=measuring.cancel)
    written, record = _write(session, workload.new_tokens + 1, measuring, on_token=lambda: times.append(watch.read()))
    wall_s, cpu_s = times[-1]
    return _Run(Sample((workload.prompt_tokens + workload.new_tokens) / wall_s, wall_s, cpu_s), written, record)


def _write(
    session: EngineSession, num_tokens: int, measuring: Measuring, *, on_token: Callable[[], None] = lambda: None
) -> tuple[tuple[int, ...], TurnRecord]:
    """Write greedy tokens, the model's own ends ignored."""
    written: list[int] = []
    greedy = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
    with closing(session.generate(greedy, cancel=measuring.cancel)) as events:
        for event in events:
            if isinstance(event, TokenEvent):
                on_token()
                written.append(event.token_id)
            elif event.record.finish_reason != "cancelled":
                return tuple(written), event.record
    raise CancelledError("measuring was stopped", "run it again; figures that were printed are whole")


_Runner = Callable[[EngineSession, list[int], Workload, Measuring], _Run]
_RUNNERS: dict[str, _Runner] = {
    "pp": _time_prefill,
    "tg": _time_decode,
    "pg": _time_both,
    "ttft": _time_first_token,
}
