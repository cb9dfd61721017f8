"""How the C library's allocator treats memory that tensors give back.

By default glibc hands large blocks back to the operating system, and changes its mind about what is large as a program
runs: a tile of scores is then paid for with fresh pages again and again (up to 40 % of the processor time of prefill),
or blocks of many sizes leave holes in the heap that no plan can foresee.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

from longlens.units import MIB

# Blocks from this size on are mapped on their own and given back at once, so that they leave no holes; smaller ones,
# tiles among them, stay in the heap and are used again.
KEPT_BYTES = 4 * MIB
# Free memory at the end of the heap that is kept for the next step.
KEPT_AT_THE_END_BYTES = 64 * MIB
# Source: glibc, malloc/malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class _Library(Protocol):
    def mallopt(self, parameter: int, value: int, /) -> int: ...


def keep_freed_memory(library: _Library | None = None) -> bool:
    """Fix both thresholds for this process.

    Args:
        library: the C library; that of this process if None.

    Returns:
        Whether the library could be told; others than glibc are left as they are.
    """
    told = ctypes.CDLL(None) if library is None else library
    if not hasattr(told, "mallopt"):
        return False
    answers = [
        told.mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES),
        told.mallopt(_M_TRIM_THRESHOLD, KEPT_AT_THE_END_BYTES),
    ]
    return all(answer == 1 for answer in answers)
