"""Attention alone, by context: four kinds in one stack of layers, with the real modules, kernels and paged cache.

The cache is filled with random rows, so nothing has to be read first. Every kind has the same number of layers, hidden
size and query heads: grouped queries over 8 key heads of 128 dims; dense latent attention; latent attention with an
indexer on every layer; and with one on every fourth layer, whose positions the next three share (IndexShare).

What is timed is one step of some query tokens behind a context: projections, rotary, cache writes, selection and
attention proper of all layers; no feed-forward and no norms around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longlens.bench.attention_stack import ATTENTION_KINDS, AttentionKind, Stack, StackSize, build_stack, stack_config
from longlens.bench.figure import Figure, Sample
from longlens.bench.measure import Clock, token_digest
from longlens.bench.process_memory import memory_use, reset_peak
from longlens.cache.layer_state import TORCH_TYPES
from longlens.cache.pages import PagePool
from longlens.cache.sequence_cache import SequenceCache
from longlens.engine.sequence import CancelFlag
from longlens.errors import CancelledError, CapacityError, LonglensError, UsageError
from longlens.kernels.choose import KernelChoice
from longlens.model.index_share import IndexShare
from longlens.model.rope import RotaryTable
from longlens.model.state import CacheElement, CacheSpec, cache_spec_of
from longlens.model.step import Span, Step
from longlens.model.trace import NoTrace
from longlens.units import format_bytes

# A sample of a fast kind is the mean of as many steps as fill this time, or the clock's own noise would show.
LEAST_SAMPLE_SECONDS = 0.2
_MOST_STEPS = 1000


@dataclass(frozen=True)
class AttentionBench:
    """What is to be measured.

    Attributes:
        size: geometry and number of layers.
        contexts: cached tokens before the step.
        queries: tokens of the step: 1 is decode, a chunk is prefill.
        repetitions: samples of each figure.
        compute_element: type of weights and activations.
        cache_element: type of cached rows.
        kinds: of attention.
        seed: of weights and rows.
        cancel: raise it to stop.
        on_step: told what is about to be done.
        clock: where time comes from.
    """

    size: StackSize
    contexts: Sequence[int]
    queries: int = 1
    repetitions: int = 5
    compute_element: CacheElement = "f32"
    cache_element: CacheElement = "f32"
    kinds: Sequence[AttentionKind] = ATTENTION_KINDS
    seed: int = 0
    cancel: CancelFlag = field(default_factory=CancelFlag)
    on_step: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        if self.queries < 1 or self.repetitions < 1 or not self.contexts or min(self.contexts) < 1:
            raise UsageError("nothing is to be measured", "contexts, queries and repetitions are at least 1")


def measure_attention(bench: AttentionBench, choice: KernelChoice, available_bytes: int) -> Iterator[Figure]:
    """Take the figures of one kind after the other, contexts rising.

    Args:
        bench: what to measure.
        choice: device and kernels.
        available_bytes: memory that the cached rows may take.

    Raises:
        CapacityError: the rows of the longest context do not fit; nothing was measured then.
        LonglensError: a step computed another result when it was repeated.
        CancelledError: `bench.cancel` was raised.
    """
    num_tokens = max(bench.contexts) + bench.queries
    for kind in bench.kinds:
        spec = cache_spec_of(stack_config(kind, bench.size), bench.cache_element)
        needed = num_tokens * spec.bytes_per_token
        if needed > available_bytes:
            raise CapacityError(
                f"{kind}: the rows of {num_tokens} tokens take {format_bytes(needed)}, "
                f"{format_bytes(available_bytes)} are free",
                "measure shorter contexts, fewer layers (--layers), or bf16 rows (-ctk bf16)",
            )
    return _measure(bench, choice, num_tokens)


def _measure(bench: AttentionBench, choice: KernelChoice, num_tokens: int) -> Iterator[Figure]:
    for kind in bench.kinds:
        dtype = TORCH_TYPES[bench.compute_element]
        stack = build_stack(kind, bench.size, choice, dtype, seed=bench.seed)
        spec = cache_spec_of(stack.config, bench.cache_element)
        bench.on_step(f"{kind}: writing {num_tokens} random rows")
        pool = PagePool(spec, -(-num_tokens // spec.page_tokens), choice.device)
        _fill(pool, spec, bench.seed)
        runner = _Runner(stack, bench, choice.device)
        with closing(SequenceCache(pool)) as cache:
            for context in sorted(set(bench.contexts)):
                if context > cache.length:
                    cache.reserve(context - cache.length)
                    cache.commit(context - cache.length)
                yield _figure(bench, runner, cache)


def _fill(pool: PagePool, spec: CacheSpec, seed: int) -> None:
    generator = torch.Generator(pool.device).manual_seed(seed)
    for tensor in spec.tensors:
        pool.layer_state(tensor.kind, tensor.layer).pool_PX.normal_(generator=generator)


class _Runner:
    """Runs steps of a stack; every step writes its rows and forgets them."""

    def __init__(self, stack: Stack, bench: AttentionBench, device: torch.device) -> None:
        self.kind = stack.kind
        self._stack = stack
        self._rotary = RotaryTable(stack.config.rope, device)
        generator = torch.Generator(device).manual_seed(bench.seed)
        shape = (bench.queries, stack.config.hidden_size)
        self._hidden_TD = torch.randn(shape, generator=generator, device=device).to(TORCH_TYPES[bench.compute_element])

    def steps(self, cache: SequenceCache, count: int) -> Tensor:
        """What the last of some equal steps computed."""
        for _ in range(count - 1):
            self.step(cache)
        return self.step(cache)

    def step(self, cache: SequenceCache) -> Tensor:
        """Every layer's output, [layers, T, D]; each is given the same input."""
        first, rows = cache.length, self._hidden_TD.shape[0]
        cache.reserve(rows)
        try:
            with torch.inference_mode():
                positions_T = torch.arange(first, first + rows, device=self._hidden_TD.device)
                span = Span(0, 0, rows, first, cache)
                share = IndexShare()
                if self._stack.config.indexer is None:
                    share.put(0, (positions_T,))  # dense layers ask for a carry and do not look at it
                step = Step((span,), self._rotary.angles(positions_T), share, NoTrace())
                outputs = torch.stack([layer.forward(step, self._hidden_TD) for layer in self._stack.layers])
            if outputs.is_cuda:
                torch.cuda.synchronize(outputs.device)
            return outputs
        finally:
            cache.drop_uncommitted()


def _figure(bench: AttentionBench, runner: _Runner, cache: SequenceCache) -> Figure:
    name = f"attention {runner.kind} q{bench.queries}"
    bench.on_step(f"{name} @ d{cache.length}")
    wall, cpu = bench.clock.wall, bench.clock.cpu
    reset_peak()
    runner.step(cache)
    started = wall()
    first = runner.step(cache)
    num_steps = min(_MOST_STEPS, max(1, round(LEAST_SAMPLE_SECONDS / max(wall() - started, 1e-9))))
    samples = []
    is_steady = True
    for _ in range(bench.repetitions):
        if bench.cancel.is_cancelled:
            raise CancelledError("measuring was stopped", "run it again; figures that were printed are whole")
        started, cpu_started = wall(), cpu()
        last = runner.steps(cache, num_steps)
        wall_s, cpu_s = wall() - started, cpu() - cpu_started
        is_steady &= torch.equal(last, first)
        samples.append(Sample(1e3 * wall_s / num_steps, wall_s, cpu_s))
    if not is_steady:
        raise LonglensError(
            f"{name} is refused: a step that was repeated computed something else",
            "the same step cannot differ on one machine; a kernel or the memory is at fault",
        )
    return Figure(
        name=f"{name} @ d{cache.length}",
        kind=name,
        depth=cache.length,
        unit="ms",
        label="warm",
        cached_tokens=cache.length,
        read_tokens=bench.queries,
        # The largest output of every layer and row: like a greedy token, it outlasts another order of summation.
        digest=token_digest(first.argmax(-1).flatten().tolist()),
        samples=tuple(samples),
        memory=memory_use(cache.pool.device),
    )
