"""Predicted beside measured time to first token and decode, for twelve configurations that were fixed in advance.

    python -m benchmarks.time_prediction [--only NAME] [--processes 3] [--profile FILE] > record.json

The machine is probed first, in a process of its own; nothing is fitted to the configurations. Each one then runs in
fresh processes, as the command line would run it: the weights are read, one prompt is read cold, and the answer goes on
greedily. Prints one JSON object; progress goes to stderr.
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
from longlens.bench.probe import measure_machine
from longlens.bench.provenance import checkout_commit
from longlens.chat.opening import OpenedModel, Opening, open_model
from longlens.engine.events import TokenEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import Request
from longlens.machine import detect_machine
from longlens.plan.cost import predict
from longlens.plan.planner import Wishes
from longlens.plan.profile import read_profile, write_profile

DECODE_SAMPLES, TOKENS_A_SAMPLE = 6, 8
ANSWER_TOKENS = DECODE_SAMPLES * TOKENS_A_SAMPLE + 1


def opened(configuration: Configuration, folder: Path) -> OpenedModel:
    """The model as the command line would open it."""
    wishes = Wishes(
        context=configuration.context + ANSWER_TOKENS,
        compute_element=configuration.weights,
        cache_element=configuration.cache,
    )
    return open_model(Opening(str(model_file(configuration.model, folder)), "cpu", wishes))


def run_one(configuration: Configuration, profile_file: Path) -> dict[str, Any]:
    """Predict and measure, in this process."""
    model = opened(configuration, profile_file.parent)
    depth = configuration.context + ANSWER_TOKENS // 2
    profile = read_profile(profile_file)
    prediction = predict(model.config, model.plan, profile, prompt_tokens=configuration.context, depth=depth)
    generator = torch.Generator().manual_seed(configuration.context)
    token_ids = torch.randint(model.config.vocab_size, (configuration.context,), generator=generator).tolist()
    sampling = SamplingParams(max_tokens=ANSWER_TOKENS, ignore_eos=True)
    wall, processor = [time.perf_counter()], [time.process_time()]
    for event in model.engine.generate(Request(token_ids, sampling)):
        if isinstance(event, TokenEvent):
            wall.append(time.perf_counter())
            processor.append(time.process_time())
    marks = range(1, len(wall) - TOKENS_A_SAMPLE, TOKENS_A_SAMPLE)
    return {
        "predicted": asdict(prediction) | {"parts": dict(prediction.parts)},
        "chunk_tokens": model.plan.chunk_tokens,
        "num_threads": model.plan.num_threads,
        "ttft_s": wall[1] - wall[0],
        "ttft_processor_s": processor[1] - processor[0],
        "decode_s": [(wall[mark + TOKENS_A_SAMPLE] - wall[mark]) / TOKENS_A_SAMPLE for mark in marks],
        "decode_processor_s": [
            (processor[mark + TOKENS_A_SAMPLE] - processor[mark]) / TOKENS_A_SAMPLE for mark in marks
        ],
    }


def summary(configuration: Configuration, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians, spread and errors of one configuration's processes."""
    predicted = runs[0]["predicted"]
    ttft = [run["ttft_s"] for run in runs]
    decode = [seconds for run in runs for seconds in run["decode_s"]]
    measured_ttft, measured_decode = statistics.median(ttft), statistics.median(decode)
    decode_s = 1 / predicted["decode_tokens_per_s"]
    return {
        **asdict(configuration),
        "chunk_tokens": runs[0]["chunk_tokens"],
        "num_threads": runs[0]["num_threads"],
        "ttft_s": {
            "predicted": predicted["ttft_cold_s"],
            "measured": measured_ttft,
            "error": predicted["ttft_cold_s"] / measured_ttft - 1,
            "samples": ttft,
            "processor": [run["ttft_processor_s"] for run in runs],
        },
        "decode_tokens_per_s": {
            "predicted": predicted["decode_tokens_per_s"],
            "measured": 1 / measured_decode,
            "error": measured_decode / decode_s - 1,
            "samples_s": decode,
            "processor_s": [seconds for run in runs for seconds in run["decode_processor_s"]],
        },
        "parts": predicted["parts"],
    }


def in_fresh_process(*arguments: str) -> str:
    """Standard output of this script run again; threads sleep while they wait, as the command line has it."""
    command = [sys.executable, "-m", "benchmarks.time_prediction", *arguments]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def record(configurations: Sequence[Configuration], num_processes: int, profile_file: Path) -> dict[str, Any]:
    """Measure all configurations, one process of each after the other, then again."""
    runs: dict[Configuration, list[dict[str, Any]]] = {configuration: [] for configuration in configurations}
    for number in range(num_processes):
        for configuration in configurations:
            place = CONFIGURATIONS.index(configuration)
            run = json.loads(in_fresh_process("--run", str(place), "--profile", str(profile_file)))
            runs[configuration].append(run)
            line = f"{number + 1}/{num_processes} {configuration.name}: first token {run['ttft_s']:.2f} s"
            print(f"{line}, predicted {run['predicted']['ttft_cold_s']:.2f} s", file=sys.stderr)
    results = [summary(configuration, runs[configuration]) for configuration in configurations]
    errors = sorted(abs(result[each]["error"]) for result in results for each in ("ttft_s", "decode_tokens_per_s"))
    profile = read_profile(profile_file)
    return {
        "what": "predicted and measured time to first token and decode",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": checkout_commit(),
        "machine": detect_machine().cpu_name,
        "command": f"python -m benchmarks.time_prediction --processes {num_processes}",
        "profile": profile.as_json(),
        "median_error": statistics.median(errors),
        "worst_error": errors[-1],
        "results": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="configurations whose name has this in it")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="a profile that is there already")
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    wishes = parser.parse_args()
    if wishes.probe is not None:
        write_profile(wishes.probe, measure_machine(folder=wishes.probe.parent))
    elif wishes.run is not None:
        print(json.dumps(run_one(CONFIGURATIONS[wishes.run], wishes.profile)))
    else:
        chosen = [each for each in CONFIGURATIONS if wishes.only in each.name]
        with tempfile.TemporaryDirectory() as folder:
            profile_file = wishes.profile or Path(folder) / "profile.json"
            if wishes.profile is None:
                in_fresh_process("--probe", str(profile_file))
            print(json.dumps(record(chosen, wishes.processes, profile_file), indent=1))


if __name__ == "__main__":
    main()
