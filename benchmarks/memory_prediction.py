"""Predicted beside measured peak memory, for twelve configurations that were fixed in advance.

    python -m benchmarks.memory_prediction [--only NAME] [--runs 3] > record.json

Peak is the highest RssAnon (proc(5): resident memory that is in no file) that another process sees when it looks every
millisecond, less the RssAnon of an empty process: the same imports and one tensor of one number, no model. Weights that
stay packed are pages of the mapped file, read again for every token: those that are resident at the end (proc(5),
pagemap) are added. All other pages of files, of libraries and of weights that were expanded, are needed once, can be
dropped at any time, and do not count. The process opens the model as
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

import numpy as np
import torch

from benchmarks.prediction_models import CONFIGURATIONS, Configuration, model_file
from longlens.bench.provenance import checkout_commit
from longlens.chat.opening import Opening, open_model
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import Request
from longlens.formats.checkpoint import open_checkpoint
from longlens.kernels.choose import KernelWish
from longlens.machine import detect_machine
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.plan.packed import packed_in_catalog
from longlens.plan.planner import Wishes
from longlens.units import KIB, MIB
from longlens.weights.catalog import build_catalog

ANSWER_TOKENS = 8
EMPTY_PROCESSES, RUNS = 5, 3
LOOK_SECONDS = 0.001
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def run_in_this_process(configuration: Configuration, file: Path, kernels: KernelWish) -> None:
    """Open the model and fill its context; a line on stdout after each part."""
    wishes = Wishes(
        context=configuration.context, compute_element=configuration.weights, cache_element=configuration.cache
    )
    opened = open_model(Opening(str(file), "cpu", wishes, kernels=kernels))
    is_packed = opened.plan.weights_form == "packed"
    _say({"plan": opened.plan.as_json(), "load_s": opened.load_s})
    generator = torch.Generator().manual_seed(configuration.context)
    shape = (configuration.context - ANSWER_TOKENS,)
    token_ids = torch.randint(opened.config.vocab_size, shape, generator=generator).tolist()
    started = time.perf_counter()
    sampling = SamplingParams(max_tokens=ANSWER_TOKENS, temperature=0, ignore_eos=True)
    num_events = sum(1 for _ in opened.engine.generate(Request(token_ids, sampling)))
    run_s = time.perf_counter() - started
    _say({"run_s": run_s, "events": num_events, "packed_bytes": resident_packed_bytes(file) if is_packed else 0})


def resident_packed_bytes(file: Path) -> int:
    """Bytes of a file's packed weights that this process has in memory, whole pages."""
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(f" {file}")]
    with open_checkpoint(file) as checkpoint:
        config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
        catalog = build_catalog(parameter_needs(config), checkpoint.tensors, checkpoint.layout)
        infos = [catalog.sources[name].tensors[0].info for name in packed_in_catalog(catalog)]
    pages = set()
    for info in infos:
        pages.update(range(info.offset // PAGE_BYTES, -(-(info.offset + info.num_bytes) // PAGE_BYTES)))
    present = set()
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        for span, _, offset, *_ in maps:
            first, last = (int(side, 16) // PAGE_BYTES for side in span.split("-"))
            pagemap.seek(8 * first)
            entries = np.frombuffer(pagemap.read(8 * (last - first)), np.uint64)
            here = np.flatnonzero(entries >> np.uint64(63)) + int(offset, 16) // PAGE_BYTES
            present.update(here.tolist())
    return len(pages & present) * PAGE_BYTES


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


def measured(configuration: Configuration, options: argparse.Namespace, empty_bytes: int) -> dict[str, Any]:
    """Run one configuration in fresh processes, and put its plan beside them."""
    file = model_file(configuration.model, options.folder)
    runs = []
    for _ in range(options.runs):
        lines, peaks = watch("--run", configuration.name, "--file", str(file), "--kernels", options.kernels)
        plan = lines[0]["plan"]
        packed_bytes = lines[1]["packed_bytes"]
        runs.append(
            {
                "peak_bytes": max(peaks.values()) - empty_bytes + packed_bytes,
                "packed_bytes": packed_bytes,
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
        "kernels": plan["kernels"],
        "predicted_bytes": predicted,
        "predicted_parts": {part: plan[part] for part in parts},
        "peak_bytes": peak,
        "error": predicted / peak - 1,
        "runs": runs,
    }


def record(configurations: Sequence[Configuration], options: argparse.Namespace) -> dict[str, Any]:
    """Measure empty processes, then every configuration."""
    empty = [max(watch("--empty")[1].values()) for _ in range(EMPTY_PROCESSES)]
    empty_bytes = round(statistics.median(empty))
    rows = [measured(configuration, options, empty_bytes) for configuration in configurations]
    errors = [row["error"] for row in rows]
    machine = detect_machine()
    return {
        "what": "predicted and measured peak memory over an empty process",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "commit": checkout_commit(),
        "machine": f"{machine.num_physical_cores} cores of {machine.cpu_name}, torch {torch.__version__}",
        "command": "python -m benchmarks.memory_prediction",
        "definition": "highest RssAnon, looked at every millisecond, less that of an empty process, and resident pages "
        "of packed weights; median of the runs",
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
    parser.add_argument("--kernels", choices=("auto", "native", "plain"), default="auto", help="which to run with")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--empty", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.empty:
        torch.zeros(1)
        _say({})
        return
    if options.run is not None:
        chosen_one = next(one for one in CONFIGURATIONS if one.name == options.run)
        run_in_this_process(chosen_one, options.file, options.kernels)
        return
    chosen = [one for one in CONFIGURATIONS if options.only is None or options.only in one.name]
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        found = record(chosen, options)
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
