from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.bench.compare import compare, differences, rank_test
from longlens.errors import LonglensError
from tests.bench.small_records import figure, record

A = (100, 101, 99, 100, 102)


def verdict(values: tuple[float, ...], **changes: object) -> str:
    (change,) = compare(record(figure(values=A)), record(figure(values=values), **changes)).changes
    return change.verdict


def test_the_same_again_is_no_change() -> None:
    comparison = compare(record(), record())
    assert comparison.difference is None
    assert [change.verdict for change in comparison.changes] == ["no change"]


def test_a_clear_gain_is_faster_and_a_clear_loss_slower() -> None:
    assert verdict((150, 151, 149, 150, 152)) == "faster"
    assert verdict((50, 51, 49, 50, 52)) == "slower"


def test_for_seconds_less_is_faster() -> None:
    first, second = record(figure(values=A, unit="s")), record(figure(values=(50, 51, 49, 50, 52), unit="s"))
    (change,) = compare(first, second).changes
    assert (change.verdict, change.ratio) == ("faster", 2.0)


def test_inside_the_spread_is_no_change_although_the_ranks_say_otherwise() -> None:
    wide, narrow = figure(values=(10, 11, 50, 99, 100)), figure(values=(101, 101, 105, 150, 200))
    (change,) = compare(record(wide), record(narrow)).changes
    assert change.probability < 0.01
    assert change.verdict == "no change"


def test_what_two_runs_of_the_same_may_differ_by_is_no_change_however_narrow_the_spread() -> None:
    assert rank_test((100, 100.1, 100.2, 100.3, 100.4), (102, 102.1, 102.2, 102.3, 102.4)) < 0.01
    assert verdict((102.9, 102.9, 102.9, 102.9, 102.9)) == "no change"
    assert verdict((104.5, 104.5, 104.5, 104.5, 104.5)) == "faster"


def test_ranks_that_may_be_chance_are_no_change() -> None:
    # The medians lie far apart and the deviations are small, but two samples of each lie among the other's.
    first = record(figure(values=(100, 100, 100, 120, 120)))
    (change,) = compare(first, record(figure(values=(99, 99, 120, 120, 120)))).changes
    assert change.probability > 0.05
    assert change.verdict == "no change"


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"name": "other"}},
        {"code": {"longlens": "0.1.0", "commit": "def", "torch": "2.13.0"}},
        {"code": {"longlens": "0.1.0", "commit": "abc", "torch": "2.14.0"}},
        {"machine": {"cpu_name": "two", "num_physical_cores": 2}},
        {"plan": {"num_threads": 1, "chunk_tokens": 128, "compute_element": "f32"}},
        {"settings": {"seed": 1}},
    ],
)
def test_one_difference_is_compared_and_named(change: dict[str, object]) -> None:
    comparison = compare(record(), record(**change))
    assert comparison.difference is not None
    assert comparison.difference.thing in ("model", "longlens", "torch", "machine", "plan num_threads", "seed")


def test_two_differences_are_refused_and_both_are_named() -> None:
    other = record(model={"name": "other"}, code={"longlens": "0.1.0", "commit": "def", "torch": "2.13.0"})
    with pytest.raises(LonglensError, match=r"more than one thing: longlens .*; model"):
        compare(record(), other)


def test_two_fields_of_the_plan_are_two_things() -> None:
    other = record(plan={"num_threads": 1, "chunk_tokens": 64, "compute_element": "f32"})
    with pytest.raises(LonglensError, match=r"plan chunk_tokens \(128 and 64\); plan num_threads \(2 and 1\)"):
        compare(record(), other)


def test_consequences_and_free_memory_are_no_things() -> None:
    plan = {**record().plan, "kv_bytes": 9, "fits": True, "tiers": {"ram": 1}, "gather_above_tokens": 5}
    machine = {**record().machine, "memory_available_bytes": 1, "load_average": [0.2, 0, 0]}
    assert differences(record(), record(plan=plan, machine=machine, settings={"seed": 0, "repetitions": 9})) == ()


def test_a_record_that_was_just_made_equals_the_one_that_was_read() -> None:
    made = record(machine={"cpu_name": "one", "instruction_sets": ("avx2",)})
    assert differences(made, record(machine={"cpu_name": "one", "instruction_sets": ["avx2"]})) == ()


def test_other_tokens_refuse_the_figure() -> None:
    second = record(figure(values=(150, 151, 149, 150, 152), digest="f" * 16), settings={"seed": 0})
    (change,) = compare(record(), second).changes
    assert change.refusal is not None
    assert change.verdict == "no change"


def test_another_element_type_may_write_other_tokens() -> None:
    plan = {**record().plan, "compute_element": "bf16"}
    second = record(figure(values=(150, 151, 149, 150, 152), digest="f" * 16), plan=plan)
    (change,) = compare(record(), second).changes
    assert (change.refusal, change.verdict) == (None, "faster")


def test_figures_are_matched_by_name_and_label() -> None:
    first = record(figure("pp512"), figure("tg8"), figure("pp8", label="warm"))
    comparison = compare(first, record(figure("tg8"), figure("pp8")))
    assert [change.first.name for change in comparison.changes] == ["tg8"]
    assert sorted(comparison.alone) == ["pp512, cold", "pp8, cold", "pp8, warm"]


def test_records_without_a_common_figure_are_refused() -> None:
    with pytest.raises(LonglensError, match="no figure in common"):
        compare(record(figure("pp8")), record(figure("tg8")))


def test_fewer_than_five_samples_are_refused() -> None:
    with pytest.raises(LonglensError, match="4 samples"):
        compare(record(figure(values=(1, 2, 3, 4))), record())


@pytest.mark.parametrize(
    ("code", "load", "words"),
    [("abc-dirty", 0.1, "which code"), (None, 0.1, "which code"), ("abc", 3.0, "busy machine")],
)
def test_what_weakens_a_comparison_is_said(code: str | None, load: float, words: str) -> None:
    weak = record(
        code={"longlens": "0.1.0", "commit": code, "torch": "2.13.0"},
        machine={**record().machine, "load_average": [load, 0, 0]},
    )
    notes = compare(weak, weak).notes
    assert [note[0] for note in notes] == ["A", "B"]
    assert all(words in note for note in notes)


def test_the_exact_test_agrees_with_published_tables() -> None:
    # Five against five: U = 0 has p = 2/252, U = 2 has p = 0.032, U = 3 has p = 0.056.
    assert rank_test((1, 2, 3, 4, 5), (6, 7, 8, 9, 10)) == pytest.approx(2 / 252)
    assert rank_test((1, 2, 3, 4, 7), (5, 6, 8, 9, 10)) == pytest.approx(0.0317, abs=1e-4)
    assert rank_test((1, 2, 3, 4, 8), (5, 6, 7, 9, 10)) == pytest.approx(0.0556, abs=1e-4)


def test_many_samples_use_the_normal_approximation() -> None:
    assert rank_test(range(0, 40, 2), range(1, 41, 2)) > 0.5
    assert rank_test(range(20), range(20, 40)) < 1e-6
    assert rank_test([1.0] * 20, [1.0] * 20) == 1.0


@given(values=st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_the_test_is_the_same_from_both_sides_and_blind_to_order(values: list[int]) -> None:
    first, second = values[:3], values[3:]
    expected = rank_test(first, second)
    assert 0 < expected <= 1
    assert rank_test(second, first) == pytest.approx(expected)
    assert all(rank_test(order, second) == pytest.approx(expected) for order in permutations(first))
