"""How far the medians of `longlens bench` move from run to run on a quiet machine.

    python benchmarks/repeatability.py RUNS FOLDER [words of longlens bench]

Every run is a process of its own and leaves a record in FOLDER, which must be empty. Without words it measures `mid`
with random weights in Q4_K_M: prefill and decode at depths 0 and 4096. Prints one JSON object: for each figure the
medians of all runs, how far the farthest lies from their middle (the target is 3 %), how many cores each run kept busy,
and the machine's load before each run. Runs on a busy machine are reported as such: they say nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from longlens.bench.record import Record, read_record

_DEFAULT = ("--synthetic", "mid", "--synthetic-type", "Q4_K_M", "-p", "256", "-n", "32", "-d", "0,4096")
_TARGET = 0.03
_QUIET_LOAD = 0.5


def run_once(path: Path, words: tuple[str, ...]) -> Record:
    """One run, in a process of its own."""
    command = [sys.executable, "-m", "longlens", "bench", *words, "--output", str(path)]
    run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(f"a run failed: {' '.join(run.stderr.splitlines()[-2:])}")
    return read_record(path)


def summary(records: list[Record]) -> list[dict[str, object]]:
    """For each figure: the medians of all runs, and how far they moved."""
    figures = []
    for place, first in enumerate(records[0].figures):
        every = [record.figures[place] for record in records]
        medians = [figure.median for figure in every]
        middle = median(medians)
        figures.append(
            {
                "name": first.name,
                "label": first.label,
                "unit": first.unit,
                "medians": medians,
                "moved": max(abs(value - middle) for value in medians) / middle,
                "cores": [figure.cpu_per_wall for figure in every],
                "same_tokens": len({figure.digest for figure in every}) == 1,
            }
        )
    return figures


def main() -> None:
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 2:
        raise SystemExit("python benchmarks/repeatability.py RUNS FOLDER [words of longlens bench]")
    folder, words = Path(sys.argv[2]), tuple(sys.argv[3:]) or _DEFAULT
    folder.mkdir(exist_ok=True)
    loads, records = [], []
    for number in range(int(sys.argv[1])):
        # The load of the run before is still in the average of a minute; the shortest one forgets it soonest.
        loads.append(os.getloadavg()[0])
        records.append(run_once(folder / f"run-{number:02}.json", words))
        print(f"run {number + 1} of {sys.argv[1]}", file=sys.stderr)
    figures = summary(records)
    print(
        json.dumps(
            {
                "what": "repeatability of longlens bench",
                "date": records[-1].date,
                "command": f"python benchmarks/repeatability.py {sys.argv[1]} FOLDER {' '.join(words)}",
                "code": dict(records[-1].code),
                "machine": dict(records[-1].machine),
                "model": dict(records[-1].model),
                "target": _TARGET,
                "load_before_each_run": loads,
                "was_quiet_at_first": loads[0] <= _QUIET_LOAD,
                "reaches_target": all(figure["moved"] <= _TARGET for figure in figures),  # type: ignore[operator]
                "figures": figures,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
