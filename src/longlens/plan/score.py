"""Predictions beside measurements, kept after every run, and how far they were apart.

One line of JSON an outcome, in a file that is only ever added to. A line is written by one system call under a lock, so
that two runs that end together do not mix; a line that a crash cut short is passed over when it is read.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from longlens.errors import FormatError, LonglensError, UsageError
from longlens.model.config import ModelConfig
from longlens.plan.cost import predict
from longlens.plan.plan import Plan
from longlens.plan.profile import profile_path, read_profile

OUTCOMES_FILE = "outcomes.jsonl"
Measure = Literal["ttft", "decode", "memory"]
MEASURES: tuple[Measure, ...] = ("ttft", "decode", "memory")
# Shorter answers say too little about the rate of decode.
LEAST_TOKENS = 8


@dataclass(frozen=True)
class Outcome:
    """What was predicted for one run, and what it took. None where a side is not known.

    Attributes:
        date: when the run ended, ISO 8601.
        model: name of the checkpoint.
        device: "cpu", or a CUDA device.
        prompt_tokens: tokens that the answer could see.
        cached_tokens: of these, the ones that were not read again.
        completion_tokens: tokens of the answer.
        predicted_ttft_s: seconds to the first token.
        measured_ttft_s: likewise.
        predicted_decode_tokens_per_s: tokens a second after the first.
        measured_decode_tokens_per_s: likewise.
        predicted_memory_bytes: peak memory of the process.
        measured_memory_bytes: likewise.
    """

    date: str
    model: str
    device: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    predicted_ttft_s: float | None = None
    measured_ttft_s: float | None = None
    predicted_decode_tokens_per_s: float | None = None
    measured_decode_tokens_per_s: float | None = None
    predicted_memory_bytes: float | None = None
    measured_memory_bytes: float | None = None

    def pair(self, measure: Measure) -> tuple[float | None, float | None]:
        """Predicted and measured value of one measure."""
        name = {"ttft": "ttft_s", "decode": "decode_tokens_per_s", "memory": "memory_bytes"}[measure]
        return getattr(self, f"predicted_{name}"), getattr(self, f"measured_{name}")


@dataclass(frozen=True)
class Score:
    """How far predictions were from measurements, as shares of the measured value; None without a run."""

    median_error: float | None
    p90_error: float | None
    num_runs: int


@dataclass(frozen=True)
class Turn:
    """What one turn took; fields as in `engine.turn_record.TurnRecord`."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_s: float | None
    decode_s: float


def keep_score(
    folder: Path | None, config: ModelConfig, plan: Plan, turn: Turn, *, memory_bytes: tuple[float, float] | None = None
) -> str | None:
    """Put a turn's prediction beside what it took; without a machine profile in the folder nothing is written.

    Args:
        folder: the cache folder; None where nothing may be kept on disk.
        config: the model.
        plan: how it ran.
        turn: what it took.
        memory_bytes: predicted and measured peak memory, if both are known.

    Returns:
        None, or a sentence for the log that says why the turn is not scored.
    """
    if folder is None or not profile_path(folder, plan.device).is_file():
        return None
    try:
        append_outcome(folder, _outcome_of(folder, config, plan, turn, memory_bytes))
    except LonglensError as error:  # an answer that is there is not lost over its score
        return f"this turn is not scored: {error.fault} ({error.mend})"
    return None


def append_outcome(folder: Path, outcome: Outcome) -> None:
    """Add an outcome to the folder's file; both are made for this user only if they are missing.

    Raises:
        UsageError: the file cannot be written.
    """
    line = (json.dumps(asdict(outcome)) + "\n").encode()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / OUTCOMES_FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            # A line that a crash cut short is ended first, so that it does not swallow this one.
            is_cut = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, b"\n" + line if is_cut else line)
        finally:
            os.close(handle)
    except OSError as error:
        raise UsageError(
            f"{folder / OUTCOMES_FILE} cannot be written: {error.strerror}",
            "name a folder to write to with --cache-dir",
        ) from error


def read_outcomes(folder: Path) -> tuple[Outcome, ...]:
    """Read all outcomes, the oldest first; lines that are not outcomes (cut short, or from elsewhere) are passed over.

    Raises:
        FormatError: the file is there and cannot be read.
    """
    path = folder / OUTCOMES_FILE
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}", "check its permissions, or delete it") from error
    read = (_outcome(line) for line in lines)
    return tuple(outcome for outcome in read if outcome is not None)


def score(outcomes: Iterable[Outcome], measure: Measure) -> Score:
    """Median and 90th percentile of |predicted - measured| / measured, over the runs that have both."""
    errors = []
    for outcome in outcomes:
        predicted, measured = outcome.pair(measure)
        if predicted is not None and measured is not None and measured > 0:
            errors.append(abs(predicted - measured) / measured)
    if not errors:
        return Score(None, None, 0)
    errors.sort()
    return Score(_quantile(errors, 0.5), _quantile(errors, 0.9), len(errors))


def _outcome_of(
    folder: Path, config: ModelConfig, plan: Plan, turn: Turn, memory_bytes: tuple[float, float] | None
) -> Outcome:
    profile = read_profile(profile_path(folder, plan.device))
    prompt, answer = max(1, turn.prompt_tokens), turn.completion_tokens
    read = max(1, prompt - turn.cached_tokens)
    depth = prompt + answer // 2
    prediction = predict(config, plan, profile, prompt_tokens=prompt, depth=depth, question_tokens=read)
    has_rate = answer >= LEAST_TOKENS and turn.decode_s > 0
    predicted_memory, measured_memory = memory_bytes or (None, None)
    return Outcome(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        model=plan.model,
        device=plan.device,
        prompt_tokens=turn.prompt_tokens,
        cached_tokens=turn.cached_tokens,
        completion_tokens=answer,
        predicted_ttft_s=prediction.ttft_memory_s,
        measured_ttft_s=turn.ttft_s,
        predicted_decode_tokens_per_s=prediction.decode_tokens_per_s,
        measured_decode_tokens_per_s=(answer - 1) / turn.decode_s if has_rate else None,
        predicted_memory_bytes=predicted_memory,
        measured_memory_bytes=measured_memory,
    )


def _quantile(ascending: Sequence[float], share: float) -> float:
    """Linear interpolation between the two nearest ranks."""
    place = share * (len(ascending) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])


def _outcome(line: bytes) -> Outcome | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    values = {field.name: document[field.name] for field in fields(Outcome) if field.name in document}
    texts, counts = ("date", "model", "device"), ("prompt_tokens", "cached_tokens", "completion_tokens")
    is_whole = all(isinstance(values.get(name), str) for name in texts)
    is_whole = is_whole and all(isinstance(values.get(name), int) for name in counts)
    others = [value for name, value in values.items() if name not in (*texts, *counts)]
    if not is_whole or not all(value is None or _is_number(value) for value in others):
        return None
    return Outcome(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
