"""What decoding loses when another process takes a core.

    python benchmarks/stolen_core.py MODEL.gguf [ROUNDS]

Decodes with the C++ kernels in turn alone and beside a process that spins, pinned to the last core that this one may
use. Prints one JSON object: tokens a second of every round, how much of all cores' time the other process took (by its
own clock), how much slower decoding was, and the difference of the two, which is what the threads' waiting costs. The
aim is a difference of at most 0.15. Runs on a busy machine say nothing: the load before the run is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import psutil

import longlens

_TOKENS = 64
_ROUNDS = 5
_SPINNER = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"


def decode(model: longlens.LoadedModel) -> float:
    """Seconds for some tokens after a short prompt."""
    with model.session() as session:
        session.extend(list(range(16)))
        params = longlens.SamplingParams(max_tokens=_TOKENS, ignore_eos=True)
        started = time.perf_counter()
        for _ in session.generate(params):
            pass
        return time.perf_counter() - started


def decode_beside(model: longlens.LoadedModel, core: int) -> tuple[float, float]:
    """Seconds for the same tokens beside a process that spins on a core, and the seconds that it got."""
    command = [sys.executable, "-c", _SPINNER, str(core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as spinner:
        spinner.stdout.readline()  # type: ignore[union-attr]
        clock = psutil.Process(spinner.pid)
        before = clock.cpu_times().user
        seconds = decode(model)
        taken = clock.cpu_times().user - before
        spinner.kill()
    return seconds, taken


def main() -> None:
    if len(sys.argv) not in (2, 3):
        raise SystemExit("python benchmarks/stolen_core.py MODEL.gguf [ROUNDS]")
    rounds = int(sys.argv[2]) if len(sys.argv) == 3 else _ROUNDS
    cores = sorted(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    alone, beside, shares = [], [], []
    with longlens.load(sys.argv[1], device="cpu", context=512, kernels="native") as model:
        threads = model.plan.num_threads
        decode(model)
        for _ in range(rounds):
            alone.append(_TOKENS / decode(model))
            seconds, taken = decode_beside(model, cores[-1])
            beside.append(_TOKENS / seconds)
            shares.append(taken / seconds / len(cores))
    loss = 1 - median(beside) / median(alone)
    print(
        json.dumps(
            {
                "model": Path(sys.argv[1]).name,
                "threads": threads,
                "cores": len(cores),
                "load_before": load,
                "alone_tokens_per_s": alone,
                "beside_tokens_per_s": beside,
                "stolen_share": median(shares),
                "loss": loss,
                "loss_beyond_the_share": loss - median(shares),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
