"""The record of a benchmark: figures, and everything that they depend on. Records are added, never edited."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from longlens import __version__
from longlens.bench.figure import LEAST_SAMPLES, Figure, figure_from_json
from longlens.bench.provenance import checkout_commit
from longlens.errors import FormatError, UsageError
from longlens.machine import Machine
from longlens.model.config import ModelConfig
from longlens.model.needs import num_parameters

RECORD_VERSION = 1
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Record:
    """What one run of the benchmark leaves.

    Attributes:
        code: `longlens` version, `commit` of the checkout (None outside of one), `torch` version.
        date: when it was made, UTC.
        command: the words of the command line.
        machine: as detected when the run began, with its load average.
        model: name, architecture, number of parameters, digest of the configuration, bytes and origin of the file.
        plan: every decision about the run; empty for figures that run no whole model.
        settings: seed, repetitions, geometry.
        figures: what was measured.
    """

    code: Mapping[str, str | None]
    date: str
    command: tuple[str, ...]
    machine: Mapping[str, Any]
    model: Mapping[str, Any]
    plan: Mapping[str, Any]
    settings: Mapping[str, Any]
    figures: tuple[Figure, ...]

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return {
            "record": RECORD_VERSION,
            "code": dict(self.code),
            "date": self.date,
            "command": list(self.command),
            "machine": dict(self.machine),
            "model": dict(self.model),
            "plan": dict(self.plan),
            "settings": dict(self.settings),
            "figures": [figure.as_json() for figure in self.figures],
        }


def code_identity() -> dict[str, str | None]:
    """Versions of what computes."""
    return {"longlens": __version__, "commit": checkout_commit(), "torch": version("torch")}


def machine_identity(machine: Machine) -> dict[str, Any]:
    """The machine as plain values, with how busy it was: an hour's figures of a busy machine are worth nothing."""
    load = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
    return {**asdict(machine), "load_average": load}


def model_identity(name: str, config: ModelConfig, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one model from another, without reading its weights.

    Args:
        name: of the file or folder.
        config: from the checkpoint.
        origin: more of it, such as the bytes of the file, or type and seed of synthetic weights.
    """
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:16]
    return {
        "name": name,
        "architecture": config.architecture,
        "parameters": num_parameters(config),
        "config_digest": digest,
        **origin,
    }


def now() -> str:
    """The date and time of a record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_output(path: Path, repetitions: int) -> None:
    """Refuse, before anything is measured, a record that could not be written.

    Raises:
        UsageError: the file exists, its folder is missing or closed, or there are too few samples for a record.
    """
    if repetitions < LEAST_SAMPLES:
        raise UsageError(
            f"a record needs {LEAST_SAMPLES} samples, {repetitions} were asked for",
            f"give -r {LEAST_SAMPLES} or more, or leave out --output",
        )
    if os.path.lexists(path):
        raise _exists(path)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written", "name a file in a folder that exists and that you can write to")


def write_record(path: Path, record: Record) -> None:
    """Write a record under a new name: whole, or not at all.

    Raises:
        UsageError: the file exists, or it cannot be written.
    """
    temporary = None
    try:
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            json.dump(record.as_json(), file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.link(temporary, path)  # unlike a rename, it refuses a name that is taken
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", "the figures are on standard output; keep them from there"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        UsageError: the file cannot be read.
        FormatError: it is no record, or one of another version.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "name a file that bench --output wrote") from None
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("record") != RECORD_VERSION:
        raise FormatError(f"{path} is no record of this version", "name a file that bench --output wrote")
    return _record(path, content)


def _record(path: Path, content: Mapping[str, Any]) -> Record:
    parts: dict[str, dict[str, Any]] = {}
    for name in ("code", "machine", "model", "plan", "settings"):
        part = content.get(name)
        if not isinstance(part, dict):
            raise FormatError(f"{path}: {name} is missing from the record", "name a file that bench --output wrote")
        parts[name] = part
    figures = content.get("figures")
    if not isinstance(figures, list) or not all(isinstance(figure, dict) for figure in figures):
        raise FormatError(f"{path} holds no figures", "name a file that bench --output wrote")
    return Record(
        code=parts["code"],
        machine=parts["machine"],
        model=parts["model"],
        plan=parts["plan"],
        settings=parts["settings"],
        date=str(content.get("date")),
        command=tuple(map(str, content.get("command") or ())),
        figures=tuple(map(figure_from_json, figures)),
    )


def _exists(path: Path) -> UsageError:
    return UsageError(f"{path} exists, and a record is never overwritten", "name a new file")
