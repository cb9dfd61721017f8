"""Carries a plan out: pieces of tensors are read, encoded and written, on all threads and in bounded memory.

The threads each take a piece of about a million weights and run numpy's and torch's single-threaded kernels on it,
which give up the interpreter's lock; the caller's thread writes the pieces in their order. A tensor never exists whole.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch

from longlens.convert.encoders import Bytes, encode_rows
from longlens.convert.quantise_plan import PlannedTensor, QuantisePlan
from longlens.convert.unfinished_files import UnfinishedFiles, room_taken
from longlens.errors import CancelledError, CapacityError
from longlens.formats.element_types import GGML_TYPES
from longlens.units import format_bytes

_PIECE_WEIGHTS = 2**20
# Raised whenever the bytes of some type change: what another version left unfinished is not taken up.
_ENCODER_VERSION = 1
_TYPES = {kind.name: kind for kind in GGML_TYPES.values()}


class Watcher(Protocol):
    """Is told how the work goes on, in weights."""

    def checked(self, num_weights: int) -> None:
        """A tensor of an earlier run is there and whole."""

    def written(self, num_weights: int) -> None:
        """A piece is written."""


@dataclass(frozen=True)
class Piece:
    """Rows start to stop of a tensor, numbered in the plan; `is_last`: the tensor ends with it."""

    tensor: int
    start: int
    stop: int
    is_last: bool


def write_quantised(
    plan: QuantisePlan, *, num_threads: int, watcher: Watcher, is_cancelled: Callable[[], bool]
) -> None:
    """Write the files of a plan; they have their names when all of them are whole.

    Args:
        plan: what to write. The checkpoint that it was made from must still be open.
        num_threads: pieces that are encoded at a time.
        watcher: is told what is done.
        is_cancelled: is asked between pieces.

    Raises:
        CancelledError: the caller asked to stop. The same plan goes on at the last finished tensor.
        CapacityError: the disk has no room, or is full. What is finished is kept.
        UsageError: a file of the target's name is there, or the folder cannot be written to.
        FormatError: a weight is no number, or beyond the range of its type.
        LonglensError: another process writes the same target.
    """
    _check_room(plan)
    with UnfinishedFiles(plan.request.target, plan.shards, run_of(plan)) as files:
        done = files.take_up(lambda number: watcher.checked(prod(plan.tensors[number].entry.shape)))
        for piece, data in _encoded(plan, done, num_threads):
            _stop_if(plan, piece.tensor, is_cancelled)
            entry = plan.tensors[piece.tensor].entry
            row_weights = _columns(plan.tensors[piece.tensor])
            files.write(piece.tensor, _TYPES[entry.element_type].bytes_for(piece.start * row_weights), data)
            if piece.is_last:
                files.finish_tensor(piece.tensor)
            watcher.written((piece.stop - piece.start) * row_weights)
        _stop_if(plan, len(plan.tensors), is_cancelled)
        files.complete()


def run_of(plan: QuantisePlan) -> str:
    """Tell a run from every other: by its sources' names, sizes and times, and by all that it is going to write."""
    digest = hashlib.sha256(f"longlens quantize {_ENCODER_VERSION}\n".encode())
    for path in plan.sources:
        state = path.stat()
        digest.update(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}\n".encode())
    for shard in plan.shards:
        digest.update(f"{shard.path.name} {len(shard.header)}\n".encode())
        digest.update(shard.header)
    return digest.hexdigest()


def _check_room(plan: QuantisePlan) -> None:
    folder = plan.request.target.parent
    needed, free = plan.num_bytes - room_taken(plan.shards), shutil.disk_usage(folder).free
    if needed > free:
        raise CapacityError(
            f"{format_bytes(needed)} are still to be written, {format_bytes(free)} are free in {folder}",
            f"free {format_bytes(needed - free)} more, or name a file on another disk",
        )


def _stop_if(plan: QuantisePlan, num_done: int, is_cancelled: Callable[[], bool]) -> None:
    if is_cancelled():
        raise CancelledError(
            f"the quantisation was stopped after {num_done} of {len(plan.tensors)} tensors",
            "the same command goes on where it stopped",
        )


def _encoded(plan: QuantisePlan, first_tensor: int, num_threads: int) -> Iterator[tuple[Piece, Bytes]]:
    """Encode ahead of the writer, by as many pieces as keep the threads busy and no more."""
    waiting: deque[tuple[Piece, Future[Bytes]]] = deque()
    with _threads(num_threads) as pool:
        for piece in _pieces(plan, first_tensor):
            waiting.append((piece, pool.submit(_encode, plan.tensors[piece.tensor], piece)))
            if len(waiting) > 2 * num_threads:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose torch is single-threaded; work that nobody waits for any more is not begun."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="quantize", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _pieces(plan: QuantisePlan, first_tensor: int) -> Iterator[Piece]:
    for number, tensor in enumerate(plan.tensors[first_tensor:], start=first_tensor):
        rows = tensor.rows.num_rows
        step = max(_PIECE_WEIGHTS // max(_columns(tensor), 1), 1)
        for start in range(0, max(rows, 1), step):
            stop = min(start + step, rows)
            yield Piece(number, start, stop, is_last=stop == rows)


def _encode(tensor: PlannedTensor, piece: Piece) -> Bytes:
    if tensor.is_copied:
        raw = tensor.rows.raw(piece.start, piece.stop)
        if raw is not None:
            return raw
    entry = tensor.entry
    return encode_rows(tensor.rows.read(piece.start, piece.stop), entry.element_type, name=entry.name)


def _columns(tensor: PlannedTensor) -> int:
    """Weights of a row as the source has them; the bytes are the same however a tensor's weights are cut into rows."""
    count, rows = prod(tensor.entry.shape), tensor.rows.num_rows
    return count // rows if rows else 0
