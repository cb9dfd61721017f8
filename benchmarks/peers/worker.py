"""One side in a process of its own: requests come as lines of JSON on stdin, answers go to stdout in the same way.

The process lives through a whole run, so its weights are read once and its threads and pages disturb nobody; between
two requests it waits in a read.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Start:
    """Where a workload begins: tokens that are read untimed, how many come after, and llama.cpp's ubatch for them."""

    prefix: Sequence[int]
    room_tokens: int
    ubatch_tokens: int


class Peer(Protocol):
    """An engine with a model. Its state is the tokens that it has read."""

    def settings(self) -> dict[str, object]:
        """Versions and settings, for the record."""

    def prepare(self, start: Start) -> None:
        """Read the prefix and be able to return there."""

    def reset(self) -> None:
        """Return to the state after the prefix."""

    def read(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Read tokens at once; logits [vocab_size] after the last."""


def serve(peer: Peer, requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        print(json.dumps(_answer(peer, request)), file=answers, flush=True)


def own_stdout() -> IO[str]:
    """The stream for answers. What libraries print to stdout goes to stderr from now on."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _answer(peer: Peer, request: dict[str, Any]) -> dict[str, object]:
    match request["do"]:
        case "settings":
            return peer.settings()
        case "prepare":
            peer.prepare(Start(request["prefix"], request["room_tokens"], request["ubatch_tokens"]))
            return {}
        case "time":
            return _timed(peer, request["token_ids"], one_by_one=request["one_by_one"])
        case "score":
            _save_logits(peer, request["token_ids"], request["num_rows"], request["path"])
            return {}
    raise ValueError(f"unknown request {request['do']!r}")


def _timed(peer: Peer, token_ids: list[int], *, one_by_one: bool) -> dict[str, object]:
    peer.reset()
    wall, cpu = time.perf_counter(), time.process_time()
    for part in [[token] for token in token_ids] if one_by_one else [token_ids]:
        peer.read(part)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def _save_logits(peer: Peer, token_ids: list[int], num_rows: int, path: str) -> None:
    """The last `num_rows` tokens one by one, so that both ways of reading take part in what is compared."""
    peer.reset()
    head, tail = token_ids[:-num_rows], token_ids[-num_rows:]
    if head:
        peer.read(head)
    np.save(path, np.stack([peer.read([token]) for token in tail]))
