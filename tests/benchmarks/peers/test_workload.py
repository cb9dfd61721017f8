"""Workloads are named as llama-bench names them, and pin the ubatch."""

from __future__ import annotations

import pytest

from benchmarks.peers.workload import Workload, parse_workload


@pytest.mark.parametrize(
    ("name", "workload"),
    [
        ("pp512", Workload("prefill", 512)),
        ("tg32", Workload("decode", 32)),
        ("pp512 @ d4096", Workload("prefill", 512, 4096)),
        (" tg8@d16384 ", Workload("decode", 8, 16384)),
    ],
)
def test_a_name_becomes_a_workload_and_back(name: str, workload: Workload) -> None:
    assert parse_workload(name) == workload
    assert parse_workload(workload.name) == workload


@pytest.mark.parametrize("name", ["", "pp", "pp0", "xx512", "pp512@4096", "pp512,tg32", "pp-1"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no workload"):
        parse_workload(name)


@pytest.mark.parametrize(
    ("depth", "ubatch"), [(0, 512), (16_383, 512), (16_384, 256), (32_767, 256), (32_768, 128), (131_072, 128)]
)
def test_the_ubatch_shrinks_with_depth(depth: int, ubatch: int) -> None:
    assert Workload("prefill", 512, depth).ubatch_tokens == ubatch
