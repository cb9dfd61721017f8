"""Time longlens and a peer in turns on the same GGUF file and tokens, with their agreement beside the speed.

    python -m benchmarks.peers.compare MODEL --peer llama.cpp --llama-python PYTHON --llama-build FOLDER [--out FILE]
    python -m benchmarks.peers.compare MODEL --peer transformers --transformers-python PYTHON [--out FILE]
    ... --record-quiet    measure the peer alone on a quiet machine, for benchmarks/peers/quiet.json

README.md beside this file says how the peers are built, what is pinned, and when a comparison counts.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peers import llama_bench, quiet, report, timing
from benchmarks.peers.agreement import agreement
from benchmarks.peers.process import SideProcess
from benchmarks.peers.sides import REPOSITORY, Installed, our_side, peer_side
from benchmarks.peers.workload import Workload, parse_workload
from longlens.formats.checkpoint import open_checkpoint
from longlens.machine import Machine, detect_machine
from longlens.text.tokenizer import Tokenizer

QUIET = Path(__file__).with_name("quiet.json")
DEFAULT_WORKLOADS = "pp512,tg32,pp512@d1024,tg32@d1024"


def read_options(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.compare")
    parser.add_argument("model", type=Path, help="a GGUF file, not split")
    parser.add_argument("--peer", choices=["llama.cpp", "transformers"], required=True)
    parser.add_argument("--workloads", default=DEFAULT_WORKLOADS, help=f"default {DEFAULT_WORKLOADS}")
    parser.add_argument("--rounds", type=int, default=7, help="samples of each side (default 7)")
    parser.add_argument("--record-quiet", action="store_true", help="measure the peer alone")
    parser.add_argument("--out", type=Path, help="where the record goes; it must not exist")
    parser.add_argument("--llama-python", type=Path, default=Path(sys.executable), help="has the bindings' packages")
    parser.add_argument("--llama-bindings", type=Path, help="folder of the package llama_cpp, if it is not installed")
    parser.add_argument("--llama-build", type=Path, help="folder of libllama.so and llama-bench")
    parser.add_argument("--transformers-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--transformers-dtype", default="float32")
    parser.add_argument("--transformers-config", type=Path, help="config.json of the checkpoint, unless it is a llama")
    options = parser.parse_args(words)
    if options.peer == "llama.cpp" and options.llama_build is None:
        parser.error("--llama-build is missing: the folder of libllama.so and llama-bench")
    if options.out is not None and options.out.exists():
        parser.error(f"{options.out} exists; records are added, never edited")
    try:
        options.workloads = [parse_workload(name) for name in options.workloads.split(",")]
    except ValueError as fault:
        parser.error(str(fault))
    return options


def installed_of(options: argparse.Namespace) -> Installed:
    """Where the peers are."""
    return Installed(
        llama_python=options.llama_python,
        llama_bindings=options.llama_bindings,
        llama_build=options.llama_build,
        transformers_python=options.transformers_python,
        transformers_dtype=options.transformers_dtype,
        transformers_config=options.transformers_config,
    )


def text_tokens(model: Path, num_tokens: int) -> list[int]:
    """Real text, so that routers and indexers choose as they do at work: the sources of longlens, over and over."""
    with open_checkpoint(model) as checkpoint:
        tokenizer = Tokenizer.from_gguf(checkpoint.metadata)
    token_ids: list[int] = []
    for path in itertools.cycle(sorted((REPOSITORY / "src/longlens").rglob("*.py"))):
        token_ids += tokenizer.encode_bytes(path.read_bytes())
        if len(token_ids) >= num_tokens:
            return token_ids[:num_tokens]
    raise FileNotFoundError("no sources to read")


def machine_name(machine: Machine) -> str:
    """What figures are kept under."""
    return f"{machine.cpu_name}, {machine.num_physical_cores} cores"


def subject(options: argparse.Namespace, machine: Machine, workload: Workload) -> quiet.Subject:
    """What a quiet-machine figure would be about."""
    sha256 = model_digest(options.model)
    return quiet.Subject(machine_name(machine), options.model.name, sha256, options.peer, workload.name)


@functools.cache
def model_digest(path: Path) -> str:
    """The first digits of the file's SHA-256; taken once, a file may be large."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def compare(options: argparse.Namespace, machine: Machine) -> dict[str, object]:
    """Time both sides of every workload in turns; the record."""
    longest = max(workload.depth + workload.num_tokens for workload in options.workloads)
    token_ids = text_tokens(options.model, longest)
    installed = installed_of(options)
    figures = quiet.read_figures(QUIET)
    results = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(SideProcess(our_side(options.model, longest), REPOSITORY))
        peer = stack.enter_context(SideProcess(peer_side(options.peer, options.model, installed), REPOSITORY))
        settings = {side.name: side.settings() for side in (ours, peer)}
        check_build(settings[peer.name], machine)
        for workload in options.workloads:
            samples = take_turns(ours, peer, workload, token_ids, options.rounds)
            timed = token_ids[workload.depth : workload.depth + workload.num_tokens]
            agreed = agreement(ours.logits(timed, folder), peer.logits(timed, folder))
            figure = quiet.find(figures, subject(options, machine, workload))
            result = report.Result(workload, samples[ours.name], samples[peer.name], agreed, figure)
            print(result.line(), flush=True)
            results.append(result.as_json())
    return report.record(header(options, machine), settings, token_ids, results)


def take_turns(
    ours: SideProcess, peer: SideProcess, workload: Workload, token_ids: list[int], num_rounds: int
) -> dict[str, list[timing.Sample]]:
    """Samples of both sides, A B A B, after both have read the untimed context."""
    for side in (ours, peer):
        side.prepare(workload, token_ids[: workload.depth])
    timed = token_ids[workload.depth : workload.depth + workload.num_tokens]
    runs = {side.name: lambda side=side: side.time(workload, timed) for side in (ours, peer)}
    return timing.alternate(runs, num_rounds=num_rounds)


def check_build(settings: dict[str, object], machine: Machine) -> None:
    """Refuse a llama.cpp that was built for another processor than this one."""
    missing = llama_bench.missing_instructions(str(settings.get("system_info", "")), machine.instruction_sets)
    if "system_info" in settings and missing:
        sys.exit(f"this llama.cpp does not use {', '.join(missing)}\nhint: build it with -DGGML_NATIVE=ON")


def record_quiet(options: argparse.Namespace, machine: Machine) -> int:
    """Measure the peer alone and keep what was quiet; the number of workloads refused."""
    refused = 0
    for workload in options.workloads:
        samples, settings = alone(options, workload)
        date = datetime.now(UTC).date().isoformat()
        figure = quiet.QuietFigure(subject(options, machine, workload), tuple(samples), date, settings)
        fault = quiet.refusal(figure)
        if fault is None:
            quiet.write_figures(QUIET, quiet.with_figure(quiet.read_figures(QUIET), figure))
        refused += fault is not None
        rate = figure.tokens_per_s
        print(f"{workload.name:<16} {rate.median:9.1f} tok/s  {fault or 'kept'}", flush=True)
    return refused


def alone(options: argparse.Namespace, workload: Workload) -> tuple[list[float], dict[str, object]]:
    """Tokens a second of the peer alone: llama.cpp by its own tool, transformers by the process that is compared."""
    if options.peer == "llama.cpp":
        command = llama_bench.command(options.llama_build / "llama-bench", options.model, workload, options.rounds)
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return llama_bench.samples(output.stdout, workload)
    token_ids = text_tokens(options.model, workload.depth + workload.num_tokens)
    with SideProcess(peer_side(options.peer, options.model, installed_of(options)), REPOSITORY) as peer:
        peer.prepare(workload, token_ids[: workload.depth])
        run = {peer.name: lambda: peer.time(workload, token_ids[workload.depth :])}
        samples = timing.alternate(run, num_rounds=options.rounds)[peer.name]
        return [workload.num_tokens / sample.wall_s for sample in samples], peer.settings()


def header(options: argparse.Namespace, machine: Machine) -> report.Header:
    """What the record says about itself."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True)
    names = ",".join(workload.name.replace(" ", "") for workload in options.workloads)
    return report.Header(
        what=f"{options.model.name}: longlens and {options.peer} in turns",
        date=datetime.now(UTC).date().isoformat(),
        commit=git.stdout.strip(),
        machine=machine_name(machine),
        command=f"python -m benchmarks.peers.compare {options.model.name} --peer {options.peer} --workloads {names}"
        f" --rounds {options.rounds}",
    )


def main() -> int:
    """Run; 0, or 1 if a quiet figure was refused."""
    options = read_options()
    machine = detect_machine()
    if options.record_quiet:
        return 1 if record_quiet(options, machine) else 0
    result = compare(options, machine)
    if options.out is not None:
        report.write(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
