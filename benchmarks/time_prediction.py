"""Predicted beside measured time to first token and decode, for twelve configurations that were fixed in advance.

    python -m benchmarks.time_prediction [--only NAME] [--processes 3] [--samples 6] [--profile FILE] > record.json

The machine is probed first, in a process of its own; nothing is fitted to the configurations. Each one then runs in
fresh processes, as the command line would run it: the weights are read, one prompt is read cold, and the answer goes on
greedily; with plain kernels, since the probe does not measure others yet (--kernels). As many threads are used as cores
that the process may run on, so `taskset -c 0,1` makes it two. Models are looked for in the folder that
LONGLENS_BENCHMARK_MODELS names (benchmarks/prediction_models.py). Prints one JSON object; progress goes to stderr.

What users see is compared, so the median sample is. Beside every sample stand its processor time, the page faults, and
the share of the time in which the process wanted to run and did not (Linux: how long its threads stood in the run
queue, /proc/self/task/*/schedstat). A sample with a share above WAITED is marked as disturbed: it stays in the record,
and a median over the undisturbed ones stands beside that of all; errors are those of the undisturbed ones where there
are at least half of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.prediction_models import CONFIGURATIONS, Configuration, model_file
from longlens.bench.probe import measure_machine
from longlens.bench.provenance import checkout_commit
from longlens.chat.opening import OpenedModel, Opening, open_model
from longlens.engine.events import TokenEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import Request
from longlens.kernels.choose import KernelWish
from longlens.machine import detect_machine
from longlens.plan.cost import predict
from longlens.plan.planner import Wishes
from longlens.plan.profile import read_profile, write_profile

DECODE_SAMPLES, TOKENS_A_SAMPLE = 6, 8
# Share of a sample's wall time that its threads, summed, may wait for a core before it counts as disturbed.
WAITED = 0.10


@dataclass(frozen=True)
class Mark:
    """A moment of the run by three clocks, in seconds, and the page faults up to it."""

    wall: float
    processor: float
    waiting: float
    faults: int


def now() -> Mark:
    """This moment."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return Mark(time.perf_counter(), time.process_time(), _waiting_seconds(), faults)


def _waiting_seconds() -> float:
    """How long threads of this process have stood in the run queue; 0 where the kernel does not count it."""
    total = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has just ended
            total += int(file.read_text().split()[1])
    return total / 1e9


def sample(first: Mark, last: Mark, num_tokens: int) -> dict[str, Any]:
    """One measured stretch, a token."""
    seconds = last.wall - first.wall
    waited = (last.waiting - first.waiting) / seconds
    return {
        "seconds": seconds / num_tokens,
        "processor_s": (last.processor - first.processor) / num_tokens,
        "page_faults": (last.faults - first.faults) / num_tokens,
        "waited_share": waited,
        "is_disturbed": waited > WAITED,
    }


def answer_tokens(num_samples: int) -> int:
    """Tokens that a run generates: the first, and those of the samples."""
    return num_samples * TOKENS_A_SAMPLE + 1


def opened(
    configuration: Configuration, folder: Path, num_samples: int = DECODE_SAMPLES, kernels: KernelWish = "auto"
) -> OpenedModel:
    """The model as the command line would open it."""
    wishes = Wishes(
        context=configuration.context + answer_tokens(num_samples),
        compute_element=configuration.weights,
        cache_element=configuration.cache,
    )
    return open_model(Opening(str(model_file(configuration.model, folder)), "cpu", wishes, kernels=kernels))


def run_one(configuration: Configuration, options: argparse.Namespace) -> dict[str, Any]:
    """Predict and measure, in this process."""
    num_samples = options.samples
    model = opened(configuration, options.folder, num_samples, options.kernels)
    depth = configuration.context + answer_tokens(num_samples) // 2
    profile = read_profile(options.profile)
    prediction = predict(model.config, model.plan, profile, prompt_tokens=configuration.context, depth=depth)
    generator = torch.Generator().manual_seed(configuration.context)
    token_ids = torch.randint(model.config.vocab_size, (configuration.context,), generator=generator).tolist()
    sampling = SamplingParams(max_tokens=answer_tokens(num_samples), ignore_eos=True)
    marks = [now()]
    for event in model.engine.generate(Request(token_ids, sampling)):
        if isinstance(event, TokenEvent):
            marks.append(now())
    firsts = range(1, len(marks) - TOKENS_A_SAMPLE, TOKENS_A_SAMPLE)
    return {
        "predicted": asdict(prediction) | {"parts": dict(prediction.parts)},
        "chunk_tokens": model.plan.chunk_tokens,
        "num_threads": model.plan.num_threads,
        "ttft": sample(marks[0], marks[1], 1),
        "decode": [sample(marks[at], marks[at + TOKENS_A_SAMPLE], TOKENS_A_SAMPLE) for at in firsts],
    }


def usual_seconds(samples: Sequence[dict[str, Any]]) -> float:
    """The median of the undisturbed samples, or of all where fewer than half are undisturbed."""
    undisturbed = [one["seconds"] for one in samples if not one["is_disturbed"]]
    every = [one["seconds"] for one in samples]
    return statistics.median(undisturbed if 2 * len(undisturbed) >= len(samples) else every)


def spread(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What stands beside a measured median: all samples, and how many were disturbed."""
    return {
        "median_of_all_s": statistics.median(one["seconds"] for one in samples),
        "num_disturbed": sum(one["is_disturbed"] for one in samples),
        "samples": list(samples),
    }


def summary(configuration: Configuration, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians, spread and errors of one configuration's processes."""
    predicted = runs[0]["predicted"]
    ttft = [run["ttft"] for run in runs]
    decode = [one for run in runs for one in run["decode"]]
    measured_ttft, measured_decode = usual_seconds(ttft), usual_seconds(decode)
    decode_s = 1 / predicted["decode_tokens_per_s"]
    return {
        **asdict(configuration),
        "chunk_tokens": runs[0]["chunk_tokens"],
        "num_threads": runs[0]["num_threads"],
        "ttft_s": {
            "predicted": predicted["ttft_cold_s"],
            "measured": measured_ttft,
            "error": predicted["ttft_cold_s"] / measured_ttft - 1,
            **spread(ttft),
        },
        "decode_tokens_per_s": {
            "predicted": predicted["decode_tokens_per_s"],
            "measured": 1 / measured_decode,
            "error": measured_decode / decode_s - 1,
            **spread(decode),
        },
        "parts": predicted["parts"],
    }


def in_fresh_process(*arguments: str) -> str:
    """Standard output of this script run again; threads sleep while they wait, as the command line has it."""
    command = [sys.executable, "-m", "benchmarks.time_prediction", *arguments]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def record(configurations: Sequence[Configuration], num_processes: int, *arguments: str) -> dict[str, Any]:
    """Measure all configurations, one process of each after the other, then again; processes get the arguments."""
    runs: dict[Configuration, list[dict[str, Any]]] = {configuration: [] for configuration in configurations}
    for number in range(num_processes):
        for configuration in configurations:
            place = CONFIGURATIONS.index(configuration)
            run = json.loads(in_fresh_process("--run", str(place), *arguments))
            runs[configuration].append(run)
            line = f"{number + 1}/{num_processes} {configuration.name}: first token {run['ttft']['seconds']:.2f} s"
            each = statistics.median(one["seconds"] for one in run["decode"])
            predicted = run["predicted"]
            print(
                f"{line}, predicted {predicted['ttft_cold_s']:.2f} s; a token {each * 1e3:.1f} ms, "
                f"predicted {1e3 / predicted['decode_tokens_per_s']:.1f} ms",
                file=sys.stderr,
                flush=True,
            )
    results = [summary(configuration, runs[configuration]) for configuration in configurations]
    errors = sorted(abs(result[each]["error"]) for result in results for each in ("ttft_s", "decode_tokens_per_s"))
    return {
        "what": "predicted and measured time to first token and decode",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": checkout_commit(),
        "machine": f"{detect_machine().num_threads} threads of {detect_machine().cpu_name}, torch {torch.__version__}",
        "command": " ".join(["python -m benchmarks.time_prediction", *sys.argv[1:]]),
        "median_error": statistics.median(errors),
        "worst_error": errors[-1],
        "results": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="configurations whose name has this in it")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--samples", type=int, default=DECODE_SAMPLES, help="of decode in each process, 8 tokens each")
    parser.add_argument("--folder", type=Path, help="where synthetic models are kept; a temporary folder if left out")
    parser.add_argument("--kernels", choices=("auto", "native", "plain"), default="plain", help="which to run with")
    parser.add_argument("--profile", type=Path, help="a profile that is there already")
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    wishes = parser.parse_args()
    if wishes.probe is not None:
        write_profile(wishes.probe, measure_machine(folder=wishes.probe.parent))
    elif wishes.run is not None:
        print(json.dumps(run_one(CONFIGURATIONS[wishes.run], wishes)))
    else:
        chosen = [each for each in CONFIGURATIONS if wishes.only in each.name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = wishes.folder or Path(temporary)
            profile_file = wishes.profile or Path(temporary) / "profile.json"
            if wishes.profile is None:
                in_fresh_process("--probe", str(profile_file))
            options = {"--profile": profile_file, "--folder": folder, "--samples": wishes.samples}
            options["--kernels"] = wishes.kernels
            arguments = [str(word) for option in options.items() for word in option]
            found = record(chosen, wishes.processes, *arguments)
            print(json.dumps(found | {"profile": read_profile(profile_file).as_json()}, indent=1))


if __name__ == "__main__":
    main()
