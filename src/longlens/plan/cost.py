"""How long a run will take: FLOPs, bytes and calls of each phase, at the rates of a machine profile.

With measured rates the operations of the plain kernels are counted one by one (`plan/cost_plain.py`); with published
peaks the result is a limit (`plan/cost_limit.py`).

Longer prompts are read in many chunks that cost about the same: a few are computed, and those between them lie on
straight lines. The predicted time never falls when a prompt grows, although a real step may become shorter where
attention goes over to gathering: the dearer side of that edge is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol

from longlens.errors import UsageError
from longlens.model.config import ModelConfig
from longlens.plan.cost_limit import LimitRun, PlacedBytes, limit_decode, limit_prefill
from longlens.plan.cost_plain import step_work
from longlens.plan.cost_plain_parts import PlainElement, StepShape
from longlens.plan.plan import KernelsName
from longlens.plan.profile import MachineProfile
from longlens.plan.rates import LimitRates, PlainRates

QUESTION_TOKENS = 128
# Chunks that are computed: every one of the first few, then so many for each doubling.
_EXACT_CHUNKS, _CHUNKS_A_DOUBLING = 4, 2

Parts = dict[str, float]


class PlannedRun(Protocol):
    """What a prediction needs of a plan (`plan/plan.py`)."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu", or a CUDA device."""
        ...

    @property
    def compute_element(self) -> PlainElement:
        """Type of weights and activations."""
        ...

    @property
    def cache_element(self) -> PlainElement:
        """Type of cached rows."""
        ...

    @property
    def chunk_tokens(self) -> int:
        """Prefill chunks end at multiples of it."""
        ...

    @property
    def gather_above_tokens(self) -> int | None:
        """Cached tokens above which attention gathers selected rows."""
        ...

    @property
    def kv_bytes_per_token(self) -> int:
        """Cached bytes a token, index keys included."""
        ...

    @property
    def kv_bytes(self) -> int:
        """The whole cache."""
        ...

    @property
    def index_bytes(self) -> int:
        """Index keys' part of it."""
        ...

    @property
    def kernels(self) -> KernelsName:
        """Which kernels compute."""
        ...

    @property
    def components(self) -> Sequence[PlacedBytes]:
        """What lies where; only limits ask for it."""
        ...


@dataclass(frozen=True)
class Prediction:
    """What a run is expected to take.

    Attributes:
        ttft_cold_s: seconds to the first token when every token is read.
        ttft_memory_s: the same when all rows but the question's are in memory.
        ttft_disk_s: the same when they come from disk; None if the disk's rate is not known.
        decode_tokens_per_s: tokens a second after the first.
        parts: seconds of the cold reading by part; they sum to `ttft_cold_s`.
    """

    ttft_cold_s: float
    ttft_memory_s: float
    ttft_disk_s: float | None
    decode_tokens_per_s: float
    parts: Mapping[str, float]


def is_measured(plan: PlannedRun, profile: MachineProfile) -> bool:
    """Whether a profile says how fast a plan's kernels are: limits stand for any, measured rates for plain torch."""
    return plan.kernels == "plain" or not isinstance(profile.rates, PlainRates)


def predict(
    config: ModelConfig,
    plan: PlannedRun,
    profile: MachineProfile,
    *,
    prompt_tokens: int,
    depth: int = 0,
    question_tokens: int = QUESTION_TOKENS,
) -> Prediction:
    """Predict the times of a run.

    Args:
        config: the model.
        plan: how it runs.
        profile: how fast the machine is.
        prompt_tokens: tokens of the prompt, the question included.
        depth: cached tokens at which decode is predicted; 0 is right after the prompt.
        question_tokens: tokens that are read even when everything before them is cached.

    Raises:
        UsageError: no tokens, a negative depth, or a profile that measured other kernels than the plan's.
    """
    if not is_measured(plan, profile):
        raise UsageError(
            "the machine's profile measures plain torch, and the plan runs C++ kernels",
            "their times are not predicted yet; --kernels plain runs what was measured",
        )
    if prompt_tokens < 1 or depth < 0 or question_tokens < 1:
        raise UsageError(
            f"a prompt of {prompt_tokens} tokens, {question_tokens} of them a question, at depth {depth}",
            "a prompt and a question have at least one token, and no depth is negative",
        )
    reading, decoding = _costs(config, plan, profile)
    cached = max(0, prompt_tokens - question_tokens)
    parts = reading(0, prompt_tokens)
    memory = sum(reading(cached, prompt_tokens).values())
    disk = profile.disk_read_bytes_per_s
    return Prediction(
        ttft_cold_s=sum(parts.values()),
        ttft_memory_s=memory,
        ttft_disk_s=None if disk is None else memory + cached * plan.kv_bytes_per_token / disk,
        decode_tokens_per_s=1 / decoding(depth or prompt_tokens),
        parts=parts,
    )


def _costs(
    config: ModelConfig, plan: PlannedRun, profile: MachineProfile
) -> tuple[Callable[[int, int], Parts], Callable[[int], float]]:
    """Seconds of reading from a first position to an end, by part, and of one token at a depth."""
    rates = profile.rates
    if isinstance(rates, PlainRates):
        plain = _PlainCost(config, plan, rates)
        return plain.reading, plain.decoding
    run = _limit_run(plan, profile)
    limits: LimitRates = rates

    def reading(first: int, end: int) -> Parts:
        return limit_prefill(config, run, limits, first, end)

    def decoding(depth: int) -> float:
        return limit_decode(config, run, limits, depth)

    return reading, decoding


def _limit_run(plan: PlannedRun, profile: MachineProfile) -> LimitRun:
    key_bytes = plan.kv_bytes_per_token * plan.index_bytes / plan.kv_bytes if plan.kv_bytes else 0.0
    return LimitRun(
        device_tier="ram" if plan.device == "cpu" else "gpu",
        components=plan.components,
        row_bytes=plan.kv_bytes_per_token - key_bytes,
        key_bytes=key_bytes,
        chunk_tokens=plan.chunk_tokens,
        link_bytes_per_s=profile.link_bytes_per_s,
    )


class _PlainCost:
    """Steps of one sequence at measured rates."""

    def __init__(self, config: ModelConfig, plan: PlannedRun, rates: PlainRates) -> None:
        self._config = config
        self._plan = plan
        self._rates = rates
        topk = None if config.indexer is None else config.indexer.index_topk
        # Where a longer context takes another way; the dearer side is believed beyond.
        self._edges = [edge for edge in (topk, plan.gather_above_tokens) if edge is not None]
        self._whole = cache(self._compute_whole)

    def decoding(self, depth: int) -> float:
        """Seconds of one token with `depth` tokens before it."""
        lengths = [depth + 1, *(edge for edge in self._edges if edge <= depth)]
        return max(sum(self._step(1, length, wants_logits=True).values()) for length in lengths)

    def reading(self, first: int, end: int) -> Parts:
        """Seconds by part of reading positions first..end-1 in chunks, and of the first token."""
        chunk = self._plan.chunk_tokens
        total: Parts = {}
        if first % chunk:
            stop = min(end, first - first % chunk + chunk)
            _add(total, self._chunk(first, stop), 1)
            first = stop
        for number, weight in _weights(first // chunk, end // chunk, self._nodes(end // chunk + 1)).items():
            _add(total, self._whole(number), weight)
        if end % chunk and first < end:
            _add(total, self._rest(end // chunk, end), 1)
        _add(total, {"head": sum(self._head().values())}, 1)
        return total

    def _rest(self, number: int, end: int) -> Parts:
        """The last chunk, cut short: its share of a whole one, so that a whole one continues it without a jump."""
        chunk = self._plan.chunk_tokens
        part, whole = self._chunk(number * chunk, end), self._chunk(number * chunk, (number + 1) * chunk)
        nodes = self._nodes(number + 2)
        line: Parts = {}
        for node, weight in _weights(number, number + 1, nodes).items():
            _add(line, self._whole(node), weight)
        scale = sum(line.values()) / sum(whole.values())
        return {name: seconds * scale for name, seconds in part.items()}

    def _compute_whole(self, number: int) -> Parts:
        chunk = self._plan.chunk_tokens
        return self._chunk(number * chunk, (number + 1) * chunk)

    def _chunk(self, first: int, end: int) -> Parts:
        stops = [end, *(edge for edge in self._edges if first < edge < end)]
        return max(
            (self._step(stop - first, stop, wants_logits=False) for stop in stops), key=lambda p: sum(p.values())
        )

    def _head(self) -> Parts:
        """The head and the choice of a token, which the last chunk has beside a chunk's work."""
        with_head = self._step(1, 1, wants_logits=True)
        return {"head": with_head["head"]}

    def _step(self, num_tokens: int, num_positions: int, *, wants_logits: bool) -> Parts:
        shape = StepShape(num_tokens, num_positions, self._plan.compute_element, self._plan.cache_element)
        threshold = self._plan.gather_above_tokens
        work = step_work(self._config, shape, gather_above_tokens=threshold, wants_logits=wants_logits)
        return {part: counted.seconds(self._rates) for part, counted in work.items()}

    def _nodes(self, stop: int) -> list[int]:
        """Numbers of chunks that are computed, up to the first one at or after `stop`."""
        chunk = self._plan.chunk_tokens
        around = {edge // chunk + step for edge in self._edges for step in (-1, 0, 1)}
        nodes = set(range(_EXACT_CHUNKS)) | {node for node in around if node >= 0}
        doubling = 0
        while max(nodes) < stop or doubling < 1:
            doubling += 1
            nodes.add(round(_EXACT_CHUNKS * 2 ** (doubling / _CHUNKS_A_DOUBLING)))
        return sorted(nodes)


def _weights(first: int, stop: int, nodes: Sequence[int]) -> dict[int, float]:
    """How often each computed chunk counts when chunks first..stop-1 lie on straight lines between them."""
    weights: dict[int, float] = {}
    for left, right in pairwise(nodes):
        low, high = max(first, left), min(stop, right)
        if low >= high:
            continue
        count = high - low
        # Sum over chunks low..high-1 of their share of the way from left to right.
        along = (low + high - 1 - 2 * left) * count / (2 * (right - left))
        weights[left] = weights.get(left, 0.0) + count - along
        weights[right] = weights.get(right, 0.0) + along
    return {node: weight for node, weight in weights.items() if weight > 0}


def _add(total: Parts, parts: Mapping[str, float], weight: float) -> None:
    for name, seconds in parts.items():
        total[name] = total.get(name, 0.0) + seconds * weight
