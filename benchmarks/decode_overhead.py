"""Time of a decode step outside of the C++ kernels: what Python and torch cost between two calls of the library.

    python -m benchmarks.decode_overhead MODEL [--tokens 64] [--depth 16] > record.json

Every call of the library is timed where Python makes it; the rest of a step is what is reported. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from longlens.bench.provenance import checkout_commit
from longlens.chat.facade import LoadedModel
from longlens.chat.opening import Opening, open_model
from longlens.engine.sampling import SamplingParams
from longlens.kernels import native_steps
from longlens.kernels.native import NativeKernels
from longlens.machine import detect_machine
from longlens.plan.planner import Wishes

_PREPARED = ("MlaProjections", "IndexProjections", "MlaAttend", "Router")
_FUNCTIONS = ("gqa_attend", "rms_norm")


@dataclass
class Watch:
    """Seconds and calls inside of the library since the last look."""

    seconds: float = 0.0
    calls: int = 0
    steps: list[tuple[float, float, int]] = field(default_factory=list)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        def timed(*args: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **named)
            finally:
                self.seconds += time.perf_counter() - started
                self.calls += 1

        return timed

    def look(self) -> tuple[float, int]:
        """What has gathered, which is then forgotten."""
        seen = self.seconds, self.calls
        self.seconds, self.calls = 0.0, 0
        return seen


class Timed:
    """An object of the library whose methods are timed."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        self.inner = inner
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        return self._watch.around(value) if callable(value) else value


def watch_library(watch: Watch) -> None:
    """Time every call that kernels make from now on; models must be opened after it."""
    for name in _PREPARED:
        prepared = getattr(native_steps, name)

        def prepare(processor: Any, *args: Any, prepared: Any = prepared) -> Timed:
            return Timed(prepared(getattr(processor, "inner", processor), *args), watch)

        setattr(native_steps, name, prepare)
    for name in _FUNCTIONS:
        function = watch.around(getattr(native_steps, name))
        setattr(native_steps, name, lambda p, *args, f=function: f(getattr(p, "inner", p), *args))
    start = NativeKernels.__init__

    def started(self: NativeKernels, *args: Any, **named: Any) -> None:
        start(self, *args, **named)
        self._processor = Timed(self._processor, watch)

    NativeKernels.__init__ = started  # type: ignore[method-assign]


def measure(model: str, depth: int, num_tokens: int) -> list[tuple[float, float, int]]:
    """Seconds of each step, of them in the library, and calls."""
    watch, steps = Watch(), []
    watch_library(watch)
    wishes = Wishes(context=depth + num_tokens + 64)
    with (
        LoadedModel(open_model(Opening(model, "cpu", wishes, kernels="native"))) as loaded,
        loaded.session() as session,
    ):
        vocab_size = loaded.opened.config.vocab_size
        session.extend([7 + 11 * i % (vocab_size - 7) for i in range(depth)])
        before = None
        for _ in session.generate(SamplingParams(max_tokens=num_tokens, temperature=0)):
            now = time.perf_counter()
            inside, calls = watch.look()
            if before is not None and calls:
                steps.append((now - before, inside, calls))
            before = now
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode_overhead")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--depth", type=int, default=16)
    arguments = parser.parse_args()
    steps = measure(arguments.model, arguments.depth, arguments.tokens)[4:]
    outside = [total - inside for total, inside, _ in steps]
    machine = detect_machine()
    record = {
        "what": "time of a decode step outside of the C++ kernels",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": checkout_commit(),
        "machine": machine.cpu_name,
        "command": "python -m benchmarks.decode_overhead " + " ".join(sys.argv[1:]),
        "calls_a_step": steps[-1][2],
        "outside_ms": {"median": statistics.median(outside) * 1e3, "samples": [value * 1e3 for value in outside]},
        "step_ms": {"median": statistics.median(s[0] for s in steps) * 1e3, "samples": [s[0] * 1e3 for s in steps]},
    }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
