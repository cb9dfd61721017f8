from __future__ import annotations

from pathlib import Path

import torch

from longlens.bench.figure import MemoryUse
from longlens.bench.process_memory import memory_use, reset_peak

CPU = torch.device("cpu")


def test_peak_and_anonymous_memory_are_the_kernels_figures(tmp_path: Path) -> None:
    status = tmp_path / "proc/self/status"
    status.parent.mkdir(parents=True)
    status.write_text("Name:\tpython\nVmPeak:\t  999 kB\nVmHWM:\t  300 kB\nVmRSS:\t 200 kB\nRssAnon:\t  100 kB\n")
    assert memory_use(CPU, root=tmp_path) == MemoryUse(300 * 1024, 100 * 1024, None)


def test_where_there_is_no_proc_nothing_is_known(tmp_path: Path) -> None:
    assert memory_use(CPU, root=tmp_path) == MemoryUse(None, None, None)


def test_a_peak_can_be_forgotten(tmp_path: Path) -> None:
    held = torch.ones(64 * 1024 * 1024 // 4)
    high = memory_use(CPU).peak_rss_bytes
    del held
    reset_peak()
    low = memory_use(CPU).peak_rss_bytes
    assert high is None or low is None or low < high - 30 * 1024 * 1024
    reset_peak(root=tmp_path)  # a system without such a file
    assert list(tmp_path.iterdir()) == []


def test_the_peak_of_this_process_grows_with_what_it_holds() -> None:
    before = memory_use(CPU)
    held = torch.ones(64 * 1024 * 1024 // 4)
    after = memory_use(CPU)
    assert after.anonymous_bytes is None or after.anonymous_bytes - (before.anonymous_bytes or 0) > 60 * 1024 * 1024
    assert held[0] == 1
