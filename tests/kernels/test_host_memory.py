from __future__ import annotations

import subprocess
import sys

import pytest

from longlens.kernels import host_memory
from longlens.kernels.host_memory import KEPT_AT_THE_END_BYTES, KEPT_BYTES, keep_freed_memory
from longlens.kernels.reference import SCRATCH_BYTES


class Glibc:
    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.told: dict[int, int] = {}

    def mallopt(self, parameter: int, value: int, /) -> int:
        self.told[parameter] = value
        return self.answer


def test_both_thresholds_are_fixed() -> None:
    library = Glibc(1)
    assert keep_freed_memory(library)
    assert library.told == {-3: KEPT_BYTES, -1: KEPT_AT_THE_END_BYTES}


def test_a_refusal_is_told() -> None:
    assert not keep_freed_memory(Glibc(0))


def test_another_c_library_is_left_as_it_is() -> None:
    assert not keep_freed_memory(object())  # type: ignore[arg-type]


def test_a_tile_of_the_plain_kernels_is_kept() -> None:
    assert SCRATCH_BYTES < KEPT_BYTES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_large_blocks_are_given_back_at_once() -> None:
    probe = (
        "from pathlib import Path\n"
        "import torch\n"
        f"from {host_memory.__name__} import keep_freed_memory, KEPT_BYTES\n"
        "def rss(): return int(Path('/proc/self/status').read_text().split('RssAnon:')[1].split()[0]) * 1024\n"
        "assert keep_freed_memory()\n"
        "for _ in range(3): torch.ones(KEPT_BYTES)\n"  # 4 bytes each: glibc alone would come to keep them
        "before = rss(); x = torch.ones(KEPT_BYTES); during = rss(); del x; after = rss()\n"
        "print(during - before, after - before)\n"
    )
    command = [sys.executable, "-c", probe]
    during, after = map(int, subprocess.run(command, check=True, capture_output=True).stdout.split())
    assert during > 3 * KEPT_BYTES
    assert after < KEPT_BYTES
