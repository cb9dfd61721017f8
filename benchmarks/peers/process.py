"""The other end of `worker`: starts a side and asks it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.timing import Sample
from benchmarks.peers.workload import Workload

SCORED_TOKENS = 64
"""Most positions whose logits are compared."""


@dataclass(frozen=True)
class Side:
    """How a side is started: interpreter, module and arguments, and the whole environment."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


class SideProcess:
    """A side that runs; use it in a `with` block."""

    def __init__(self, side: Side, folder: Path) -> None:
        """Start it in `folder`, the repository's root."""
        self.name = side.name
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            side.command, cwd=folder, env=dict(side.environment), stdin=pipe, stdout=pipe, text=True
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("started without pipes")
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def __enter__(self) -> SideProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Its stdin ends, and it with it."""
        with suppress(BrokenPipeError):  # it ended before it read what was said last
            self._stdin.close()
        self._process.wait()
        self._stdout.close()

    def settings(self) -> dict[str, Any]:
        """Versions and settings."""
        return self._ask({"do": "settings"})

    def prepare(self, workload: Workload, prefix: Sequence[int]) -> None:
        """Read the untimed context of a workload."""
        self._ask(
            {
                "do": "prepare",
                "prefix": list(prefix),
                "room_tokens": workload.num_tokens,
                "ubatch_tokens": workload.ubatch_tokens,
            }
        )

    def time(self, workload: Workload, token_ids: Sequence[int]) -> Sample:
        """Read the tokens of a workload once."""
        request = {"do": "time", "token_ids": list(token_ids), "one_by_one": workload.kind == "decode"}
        return Sample(**self._ask(request))

    def logits(self, token_ids: Sequence[int], folder: Path) -> NDArray[np.float32]:
        """Logits of the last tokens of a workload, at most 64 rows."""
        path = folder / f"{self.name}.npy"
        num_rows = min(SCORED_TOKENS, len(token_ids))
        self._ask({"do": "score", "token_ids": list(token_ids), "num_rows": num_rows, "path": str(path)})
        return np.asarray(np.load(path))

    def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        line = ""
        with suppress(BrokenPipeError):
            self._stdin.write(json.dumps(request) + "\n")
            self._stdin.flush()
            line = self._stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer
