from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from longlens.repo.line_match import changes, follow, hunks, match_lines

VERSIONS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=30)


@given(old=VERSIONS, new=VERSIONS)
def test_shared_runs_are_shared_and_changes_are_all_the_rest(old: list[bytes], new: list[bytes]) -> None:
    runs = match_lines(old, new)
    rebuilt: list[bytes] = []
    at = 0
    for change in changes(runs, len(old), len(new)):
        rebuilt += old[at : change.old_start] + new[change.new_start : change.new_end]
        at = change.old_end
    assert rebuilt + old[at:] == new
    assert all(run.size > 0 and old[run.old : run.old + run.size] == new[run.new : run.new + run.size] for run in runs)


@given(old=VERSIONS, new=VERSIONS)
def test_a_line_is_followed_to_an_equal_line_or_is_gone(old: list[bytes], new: list[bytes]) -> None:
    runs = match_lines(old, new)
    found = [follow(runs, line) for line in range(len(old))]
    kept = [(old[line], new[place]) for line, place in enumerate(found) if place is not None]
    assert len(kept) == sum(run.size for run in runs)
    assert all(before == after for before, after in kept)


def test_equal_versions_have_no_changes() -> None:
    assert changes(match_lines([b"a"] * 9, [b"a"] * 9), 9, 9) == []


def test_changes_six_lines_apart_share_a_hunk_and_seven_apart_do_not() -> None:
    for gap, num_hunks in ((6, 1), (7, 2)):
        shared = [b"%d" % number for number in range(gap)]
        old, new = [b"a", *shared, b"b"], [b"c", *shared, b"d"]
        assert len(hunks(changes(match_lines(old, new), len(old), len(new)))) == num_hunks


def test_two_large_versions_without_a_common_line_take_no_time() -> None:
    start = time.perf_counter()
    assert match_lines([b"a%d" % n for n in range(30_000)], [b"b%d" % n for n in range(30_000)]) == ()
    assert time.perf_counter() - start < 2
