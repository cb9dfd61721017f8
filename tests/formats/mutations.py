"""Damaged files: how they are made, and what every reader owes to each of them."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import prod
from random import Random

from longlens.errors import FormatError, ModelFileError, ModelNotFoundError
from longlens.formats.tensors import TensorInfo

# what a length, count, offset or size field must survive; "near" ones lie around the file's own length
_SMALL = (0, 1, 2, 7, 31, 255, 2**16, 2**24 + 1)
HOSTILE = (*_SMALL, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
# Python objects take more room than their bytes in a file: a text of two letters 59 bytes for 10, an empty JSON list 64
# for 3. Nothing may take more than that, whatever a header claims.
MOST_MEMORY_PER_BYTE = 32
FREE_MEMORY_BYTES = 256 * 1024
MOST_SECONDS = 1.0


def mutants(bases: list[bytes], count: int, seed: int, header_bytes: int) -> Iterator[bytes]:
    """Damaged copies, in turn of each base; most of the damage falls into the first `header_bytes`."""
    random = Random(seed)
    for number in range(count):
        data = bytearray(bases[number % len(bases)])
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            _damage(data, bases, random, header_bytes)
        yield bytes(data)


def _damage(data: bytearray, bases: list[bytes], random: Random, header_bytes: int) -> None:
    most = len(data) if random.random() < 0.1 else min(len(data), header_bytes)
    at = random.randrange(most + 1)
    kind = random.randrange(8)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << random.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = random.randrange(256)
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + random.choice((1, 4, 8, 32))]
    elif kind == 4:
        data[at:at] = random.randbytes(random.choice((1, 4, 8, 32)))
    elif kind == 5:
        other = random.choice(bases)
        start = random.randrange(len(other))
        piece = other[start : start + random.choice((4, 8, 24, 100))]
        data[at : at + (len(piece) if random.random() < 0.5 else 0)] = piece
    else:
        _attack_field(data, at, random)


def _attack_field(data: bytearray, at: int, random: Random) -> None:
    """Overwrite what may be a binary field, or a number written out in digits."""
    near = len(data) + random.randrange(-40, 40)
    value = random.choice((*HOSTILE, max(near, 0)))
    digits = [place for place in range(at, min(at + 64, len(data))) if chr(data[place]).isdigit()]
    if digits and random.random() < 0.5:
        data[digits[0] : digits[0] + 1] = random.choice(
            (str(value), f"-{value}", f"{value}.5", "1e999", '"1"')
        ).encode()
    else:
        packed = struct.pack("<Q", value)[: random.choice((4, 8))]
        data[at : at + len(packed)] = packed


def check_reader(read: Callable[[bytes], None], damaged: Iterator[bytes]) -> Counter[str]:
    """Read every damaged file: a FormatError or ModelFileError with fault and mend, or a correct open, at once.

    `read` asserts that what it opened is correct. Returns how often each outcome came.
    """
    outcomes: Counter[str] = Counter()
    tracemalloc.start()
    try:
        for data in damaged:
            outcome, is_modest = _measured(read, data)
            # Python's own tables grow at times, whoever runs; what the reader takes, it takes again
            assert is_modest or _measured(read, data)[1], f"takes too much memory or time: {data!r}"
            outcomes[outcome] += 1
    finally:
        tracemalloc.stop()
    return outcomes


def _measured(read: Callable[[bytes], None], data: bytes) -> tuple[str, bool]:
    """The outcome, and whether memory and time stayed within their bounds."""
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    start = time.process_time()
    outcome = _outcome(read, data)
    seconds = time.process_time() - start
    memory = tracemalloc.get_traced_memory()[1] - before
    return outcome, memory <= MOST_MEMORY_PER_BYTE * len(data) + FREE_MEMORY_BYTES and seconds <= MOST_SECONDS


def _outcome(read: Callable[[bytes], None], data: bytes) -> str:
    try:
        read(data)
    except (FormatError, ModelFileError, ModelNotFoundError) as error:
        for line in (error.fault, error.mend):
            assert line.strip(), data
            assert "\n" not in line, data
            assert line.encode(), data  # a lone surrogate could not be printed
            assert len(line) < 2000, data
        return type(error).__name__
    return "opened"


def check_tensors(tensors: Mapping[str, TensorInfo] | tuple[TensorInfo, ...], lengths: list[int]) -> None:
    """Assert that tensors lie within their files, apart from each other, and are as long as shape and type say."""
    infos = tuple(tensors.values()) if isinstance(tensors, Mapping) else tensors
    assert len({info.name for info in infos}) == len(infos)
    ends = dict.fromkeys(range(len(lengths)), 0)
    for info in sorted(infos, key=lambda info: (info.shard, info.offset, info.num_bytes)):
        kind = info.element_type
        assert info.name.isprintable()
        assert all(0 <= size < 2**63 for size in info.shape)
        assert prod(info.shape) % kind.block_elements == 0
        assert info.num_bytes == prod(info.shape) // kind.block_elements * kind.block_bytes
        assert 0 <= info.offset <= info.offset + info.num_bytes <= lengths[info.shard]
        assert info.offset >= ends[info.shard] or info.num_bytes == 0
        ends[info.shard] = max(ends[info.shard], info.offset + info.num_bytes)
