"""Predicted beside measured peak memory, for twelve configurations that were fixed in advance.

    python -m benchmarks.memory_prediction [--only NAME] [--runs 3] > record.json

Peak is the highest RssAnon (proc(5): resident memory that is in no file) that another process sees when it looks every
millisecond, less the RssAnon of an empty process: the same imports and one tensor of one number, no model. Pages of the
checkpoint and of libraries are in files, can be dropped at any time, and do not count. The process opens the model as
the command line does, reads a prompt that fills the context but for the answer, and samples the answer greedily.
Prints one JSON object; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.prediction_models import CONFIGURATIONS, Configuration, model_file
from longlens.bench.provenance import checkout_commit
from longlens.chat.opening import Opening, open_model
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import Request
from longlens.machine import detect_machine
from longlens.plan.planner import Wishes
from longlens.units import KIB, MIB

ANSWER_TOKENS = 8
EMPTY_PROCESSES, RUNS = 5, 3
LOOK_SECONDS = 0.001


def run_in_this_process(configuration: Configuration, file: Path) -> None:
    """Open the model and fill its context; a line on stdout after each part."""
    wishes = Wishes(
        context=configuration.context, compute_element=configuration.weights, cache_element=configuration.cache
    )
    opened = open_model(Opening(str(file), "cpu", wishes))
    _say({"plan": opened.plan.as_json(), "load_s": opened.load_s})
    generator = torch.Generator().manual_seed(configuration.context)
    shape = (configuration.context - ANSWER_TOKENS,)
    token_ids = torch.randint(opened.config.vocab_size, shape, generator=generator).tolist()
    started = time.perf_counter()
    sampling = SamplingParams(max_tokens=ANSWER_TOKENS, temperature=0, ignore_eos=True)
    num_events = sum(1 for _ in opened.engine.generate(Request(token_ids, sampling)))
    _say({"run_s": time.perf_counter() - started, "events": num_events})


def watch(*arguments: str) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Run this script again; give its lines, and the highest RssAnon before each of them and after the last."""
    command = [sys.executable, "-m", "benchmarks.memory_prediction", *arguments]
    # Threads sleep while they wait, as the command line has it.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    with tempfile.TemporaryFile("w+") as out:
        with subprocess.Popen(command, env=environment, stdout=out) as child:
            peaks: dict[int, int] = {}
            with Path(f"/proc/{child.pid}/status").open() as status:
                while child.poll() is None:
                    part = os.fstat(out.fileno()).st_size
                    peaks[part] = max(peaks.get(part, 0), _anonymous_bytes(status))
                    time.sleep(LOOK_SECONDS)
        if child.returncode != 0:
            raise SystemExit(f"{' '.join(arguments)} ended with {child.returncode}")
        out.seek(0)
        lines = [json.loads(line) for line in out]
    return lines, dict(enumerate(peaks[part] for part in sorted(peaks)))


def _anonymous_bytes(status: Any) -> int:
    try:
        status.seek(0)
        _, found, rest = status.read().partition("RssAnon:")
    except OSError:  # it has just ended
        return 0
    return int(rest.split()[0]) * KIB if found else 0


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def measured(configuration: Configuration, folder: Path, empty_bytes: int, num_runs: int) -> dict[str, Any]:
    """Run one configuration in fresh processes, and put its plan beside them."""
    file = model_file(configuration.model, folder)
    runs = []
    for _ in range(num_runs):
        lines, peaks = watch("--run", configuration.name, "--file", str(file))
        plan = lines[0]["plan"]
        runs.append(
            {
                "peak_bytes": max(peaks.values()) - empty_bytes,
                "peak_while_opening_bytes": peaks[0] - empty_bytes,
                "load_s": lines[0]["load_s"],
                "run_s": lines[1]["run_s"],
            }
        )
    parts = ("weights_bytes", "kv_bytes", "scratch_bytes", "runtime_bytes")
    predicted = sum(plan[part] for part in parts)
    peak = statistics.median(run["peak_bytes"] for run in runs)
    print(
        f"{configuration.name}: predicted {predicted / MIB:.1f} MiB, measured {peak / MIB:.1f} MiB, "
        f"{predicted / peak - 1:+.1%}; beside weights and cache {plan['scratch_bytes'] / MIB:.1f} + "
        f"{plan['runtime_bytes'] / MIB:.1f}, {(peak - plan['weights_bytes'] - plan['kv_bytes']) / MIB:.1f}",
        file=sys.stderr,
        flush=True,
    )
    return {
        **asdict(configuration),
        "chunk_tokens": plan["chunk_tokens"],
        "predicted_bytes": predicted,
        "predicted_parts": {part: plan[part] for part in parts},
        "peak_bytes": peak,
        "error": predicted / peak - 1,
        "runs": runs,
    }


def record(configurations: Sequence[Configuration], folder: Path, num_runs: int) -> dict[str, Any]:
    """Measure empty processes, then every configuration."""
    empty = [max(watch("--empty")[1].values()) for _ in range(EMPTY_PROCESSES)]
    empty_bytes = round(statistics.median(empty))
    rows = [measured(configuration, folder, empty_bytes, num_runs) for configuration in configurations]
    errors = [row["error"] for row in rows]
    machine = detect_machine()
    return {
        "what": "predicted and measured peak memory over an empty process",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "commit": checkout_commit(),
        "machine": f"{machine.num_physical_cores} cores of {machine.cpu_name}, torch {torch.__version__}",
        "command": "python -m benchmarks.memory_prediction",
        "definition": "highest RssAnon, looked at every millisecond, less that of an empty process; median of the runs",
        "empty_process_bytes": empty,
        "worst_over": max(errors),
        "worst_under": min(errors),
        "configurations": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="configurations whose name holds this")
    parser.add_argument("--folder", type=Path, help="where synthetic models are kept; a temporary folder if left out")
    parser.add_argument("--runs", type=int, default=RUNS, help="processes of each configuration")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--empty", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.empty:
        torch.zeros(1)
        _say({})
        return
    if options.run is not None:
        run_in_this_process(next(one for one in CONFIGURATIONS if one.name == options.run), options.file)
        return
    chosen = [one for one in CONFIGURATIONS if options.only is None or options.only in one.name]
    if options.folder is not None:
        found = record(chosen, options.folder, options.runs)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = record(chosen, Path(folder), options.runs)
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
