from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import ConfigError
from longlens.model.schedule import full_layers_of_frequency, full_layers_of_pattern, full_layers_of_types


def letters(is_full: tuple[bool, ...]) -> str:
    return "".join("F" if full else "S" for full in is_full)


def test_words_and_letters_and_lists_of_words_say_the_same() -> None:
    words = ["full", "shared", "shared", "full"]
    assert full_layers_of_types(words) == (True, False, False, True)
    assert full_layers_of_pattern("FSSF") == full_layers_of_types(words)
    assert full_layers_of_pattern(words) == full_layers_of_types(words)


def test_frequency_four_and_offset_three_is_the_schedule_of_glm_5_2() -> None:
    is_full = full_layers_of_frequency(78, 4, 3)
    assert [layer for layer, full in enumerate(is_full) if full] == [0, 1, 2, *range(6, 78, 4)]


def test_the_default_offset_of_two_is_another_schedule() -> None:
    assert letters(full_layers_of_frequency(10, 4, 2)) == "FFSSSFSSSF"
    assert letters(full_layers_of_frequency(10, 4, 3)) == "FFFSSSFSSS"


def test_the_draft_layer_after_glm_5_2_would_be_full() -> None:
    assert full_layers_of_frequency(79, 4, 3)[78]


@pytest.mark.parametrize("frequency", [0, 1])
def test_frequency_zero_or_one_makes_every_layer_full(frequency: int) -> None:
    assert full_layers_of_frequency(5, frequency, 2) == (True,) * 5


@given(frequency=st.integers(0, 20), offset=st.integers(1, 20), num_layers=st.integers(1, 60))
def test_the_first_layer_is_always_full_and_the_rest_repeat(frequency: int, offset: int, num_layers: int) -> None:
    is_full = full_layers_of_frequency(num_layers, frequency, offset)
    assert all(is_full[: min(offset, num_layers)])
    rest = is_full[offset - 1 :]
    assert rest == tuple(place % max(frequency, 1) == 0 for place in range(len(rest)))


def test_another_word_is_refused_with_its_layer() -> None:
    with pytest.raises(ConfigError, match=r"indexer_types\[1\] is 'Full'"):
        full_layers_of_types(["full", "Full"])
    with pytest.raises(ConfigError, match=r"indexer_types\[0\] is True"):
        full_layers_of_types([True])


def test_another_letter_is_refused_under_the_name_of_the_pattern() -> None:
    with pytest.raises(ConfigError, match=r"index_topk_pattern\[2\] is 'f'"):
        full_layers_of_pattern("FSf")


@pytest.mark.parametrize("pattern", [4, 1.5, {"F": 1}, None])
def test_a_pattern_is_a_text_or_a_list(pattern: object) -> None:
    with pytest.raises(ConfigError, match="index_topk_pattern is"):
        full_layers_of_pattern(pattern)
