"""A side answers requests in a process of its own, one line each."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.process import Side, SideProcess
from benchmarks.peers.workload import Workload
from tests.house.tree_rules import REPOSITORY

# An engine whose logits are all of its tokens so far, in order; libraries that print to stdout are part of it.
COUNTING = """
import sys
import numpy as np
from benchmarks.peers.worker import own_stdout, serve

class Counting:
    def settings(self):
        print("a library says hello")
        start = self.start
        seen = {"calls": self.calls, "length": len(self.tokens)}
        return seen | {"ubatch": start.ubatch_tokens, "room": start.room_tokens}
    def prepare(self, start):
        self.start, self.calls, self.tokens = start, 0, list(start.prefix)
    def reset(self):
        self.tokens = list(self.start.prefix)
    def read(self, token_ids):
        self.calls += 1
        self.tokens += token_ids
        return np.float32([len(self.tokens), sum(self.tokens)])

answers = own_stdout()
serve(Counting(), sys.stdin, answers)
"""


def counting(script: str = COUNTING) -> SideProcess:
    return SideProcess(Side("counting", (sys.executable, "-c", script), dict(os.environ)), REPOSITORY)


def test_prefill_is_one_call_and_decode_one_for_each_token() -> None:
    with counting() as side:
        side.prepare(Workload("prefill", 4, depth=3), [7, 7, 7])
        sample = side.time(Workload("prefill", 4, depth=3), [1, 2, 3, 4])
        assert side.settings() == {"calls": 1, "length": 7, "ubatch": 512, "room": 4}
        side.time(Workload("decode", 4, depth=3), [1, 2, 3, 4])
        assert side.settings()["calls"] == 5
        assert side.settings()["length"] == 7
    assert sample.wall_s > 0
    assert sample.cpu_s >= 0


def test_every_sample_and_the_logits_begin_after_the_prefix(tmp_path: Path) -> None:
    with counting() as side:
        side.prepare(Workload("prefill", 3, depth=2), [10, 20])
        side.time(Workload("prefill", 3, depth=2), [1, 2, 3])
        logits = side.logits([1, 2, 3], tmp_path)
    np.testing.assert_array_equal(logits, [[3, 31], [4, 33], [5, 36]])


def test_only_the_last_64_tokens_are_scored(tmp_path: Path) -> None:
    with counting() as side:
        side.prepare(Workload("prefill", 100), [])
        logits = side.logits(list(range(100)), tmp_path)
        assert side.settings()["calls"] == 65
    assert logits.shape == (64, 2)
    assert logits[0, 0] == 37


def test_a_side_that_dies_is_named() -> None:
    with counting("raise SystemExit(3)") as side, pytest.raises(RuntimeError, match="counting ended"):
        side.settings()
