"""The rules for benchmarks/results: what a record says about itself, and that it is added once and never edited.

A record that `longlens bench` writes is known by its key `record`, and its figures say what it is. The commit may stand
under `code`, beside other versions.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

REQUIRED = ("what", "date", "commit", "machine")
RAW_SAMPLES = ("samples", "samples_s", "values")
_NAME = re.compile(r"benchmarks/results/[a-z0-9-]+/(\d{4}-\d{2}-\d{2})-[a-z0-9-]+\.(?:json|jsonl)")
_MEDIAN_OF_A_TIMING = re.compile(r"median(?:_\w*(?:_s|seconds|per_s|per_second))?|median_s")


def misnamed(name: str, record: Mapping[str, Any]) -> list[str]:
    """Refuse a record that is not called <machine>/<date>-<what>.json, or whose date is another than its name's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return [f"{name}: call it benchmarks/results/MACHINE/YYYY-MM-DD-WHAT.json, in small letters"]
    return [] if str(record.get("date")).startswith(match[1]) else [f"{name}: its date is {record.get('date')!r}"]


def missing_facts(record: Mapping[str, Any]) -> list[str]:
    """Refuse a record that does not say what, when, which code, where, and by which command."""
    said = {"commit": record.get("code", {}).get("commit"), **record}
    if isinstance(record.get("record"), int):
        said["what"] = record.get("figures")
    found = [f"{key}: missing or empty" for key in REQUIRED if not said.get(key)]
    if not any(key in ("command", "commands") and value for _, part in _objects(record) for key, value in part.items()):
        found.append("command: missing; a record says how to make it again")
    return found


def medians_without_samples(record: Mapping[str, Any]) -> list[str]:
    """Refuse the median of a timing without the raw samples beside it, under a key of `RAW_SAMPLES`."""
    found = []
    for path, part in _objects(record):
        medians = [key for key in part if _MEDIAN_OF_A_TIMING.fullmatch(key)]
        has_samples = any(isinstance(part.get(key), list) and part[key] for key in RAW_SAMPLES)
        if medians and not has_samples:
            found.append(f"{path or 'the record'}: {medians[0]} without samples")
    return found


def changed_records(root: Path, folder: str = "benchmarks/results") -> dict[str, list[str]] | None:
    """Commits that changed, renamed or removed a record after it was added, by the file's name; "" is the working tree.

    Returns:
        None where history cannot be asked: no git, no repository, or a shallow clone.
    """
    if _git(root, "rev-parse", "--is-shallow-repository").strip() != "false":
        return None
    found: dict[str, list[str]] = {}
    log = _git(root, "log", "--no-renames", "--diff-filter=MDT", "--name-only", "--format=%x00%H", "--", folder)
    for entry in log.split("\0")[1:]:
        commit, *names = entry.split()
        for name in names:
            found.setdefault(name, []).append(commit)
    for name in _git(root, "diff", "HEAD", "--no-renames", "--diff-filter=MDT", "--name-only", "--", folder).split():
        found.setdefault(name, []).append("")
    return {name: commits for name, commits in found.items() if PurePosixPath(name).suffix in (".json", ".jsonl")}


def _git(root: Path, *words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def _objects(value: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from _objects(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _objects(inner, f"{path}.{place}".lstrip("."))
