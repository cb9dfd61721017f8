from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.bench.workload import Counts, Workload, needed_context, parse_counts, parse_pair, workloads_of
from longlens.errors import UsageError


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("512", (512,)),
        ("512,1024", (512, 1024)),
        ("128-1024*2", (128, 256, 512, 1024)),
        ("0-4096+2048", (0, 2048, 4096)),
        ("3-5", (3, 4, 5)),
        ("100-350+100", (100, 200, 300)),
        ("1-7*3,9", (1, 3, 9)),
        ("8-8*2", (8,)),
        ("0", (0,)),
        (" 1, 2", (1, 2)),
    ],
)
def test_lists_and_ranges_read_as_llama_bench_reads_them(text: str, counts: tuple[int, ...]) -> None:
    assert parse_counts(text, "-p") == counts


@pytest.mark.parametrize(
    "text",
    ["", "512,", "many", "-5", "1.5", "10-5", "1-8*1", "1-8*0", "0-8*2", "1-8+0", "1-8/2", "1-8*", "1-2-3", "1e3"],
)
def test_a_list_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="-d"):
        parse_counts(text, "-d")


@pytest.mark.parametrize("text", ["1-8*1", "1-8*0", "0-8*2", "1-8+0"])
def test_a_range_that_never_gets_on_is_told_so(text: str) -> None:
    with pytest.raises(UsageError, match="never gets on"):
        parse_counts(text, "-p")


def test_a_list_without_end_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 1000"):
        parse_counts("1-999999999", "-p")


@given(first=st.integers(1, 10**6), factor=st.integers(2, 9), times=st.integers(0, 12))
def test_a_multiplied_range_has_every_power_up_to_its_end(first: int, factor: int, times: int) -> None:
    last = first * factor**times
    if last < 10**9:
        assert parse_counts(f"{first}-{last}*{factor}", "-p") == tuple(first * factor**n for n in range(times + 1))


@pytest.mark.parametrize("text", ["512", "512,128,1", "0,128", "512,0", "a,b", ""])
def test_a_pair_is_two_numbers_above_zero(text: str) -> None:
    with pytest.raises(UsageError, match="-pg"):
        parse_pair(text)


def names(**counts: list[str]) -> list[str]:
    return [workload.name for workload in workloads_of(Counts(**counts))]


def test_without_options_llama_benchs_two_tests_are_run() -> None:
    assert names() == ["pp512", "tg128"]


def test_names_are_llama_benchs() -> None:
    wanted = {"prompts": ["512"], "generates": ["128"], "pairs": ["256,64"], "first_tokens": ["4096"]}
    assert names(**wanted, depths=["0,4096"]) == [
        *("pp512", "tg128", "pp256+tg64", "ttft4096"),
        *("pp512 @ d4096", "tg128 @ d4096", "pp256+tg64 @ d4096", "ttft4096 @ d4096"),
    ]


def test_a_repeated_option_adds_to_the_list_and_zero_leaves_out() -> None:
    assert names(prompts=["64", "32"], generates=["0"]) == ["pp64", "pp32"]


def test_depths_rise_and_nothing_comes_twice() -> None:
    assert names(prompts=["8,8"], generates=["0"], depths=["128,0,128"]) == ["pp8", "pp8 @ d128"]


def test_nothing_to_measure_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="nothing is left"):
        workloads_of(Counts(prompts=["0"], generates=["0"]))


def test_a_depth_makes_a_workload_warm() -> None:
    assert Workload("pp", 8, 0, 0).label == "cold"
    assert Workload("pp", 8, 0, 1).label == "warm"


def test_decode_at_depth_zero_has_room_for_a_first_token_and_one_more() -> None:
    assert Workload("tg", 0, 128).most_tokens == 130


def test_a_depth_inside_a_page_costs_one_page_more() -> None:
    assert needed_context([Workload("pp", 56, 0, 64)], 64) == 64 + 56 + 8
    assert needed_context([Workload("pp", 56, 0, 65)], 64) == 65 + 56 + 8 + 64
