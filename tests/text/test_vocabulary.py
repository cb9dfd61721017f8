from __future__ import annotations

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from longlens.errors import ConfigError, FormatError
from longlens.text.vocabulary import LibraryRefusals, Vocabulary, token_table

TOKENS = {"a": 0, "b": 1, "ab": 2, "<a>": 3, "<": 4, ">": 5, "<a": 6}


def test_control_tokens_leave_the_vocabulary_and_the_merges() -> None:
    merges = [("a", "b"), ("<", "a"), ("<a", ">")]
    table = token_table(TOKENS, {"<a>": 3}, [], merges)
    assert table.control == {"<a>": 3}
    assert "<a>" not in table.ordinary
    assert table.merges == [("a", "b"), ("<", "a")]


def test_a_merge_of_a_control_token_is_left_out_too() -> None:
    table = token_table(TOKENS, {"<a": 6}, [], [("<", "a"), ("<a", ">"), ("a", "b")])
    assert table.merges == [("a", "b")]


def test_added_white_space_is_text() -> None:
    table = token_table(TOKENS, {"   ": 7, "<a>": 3}, ["   "], [])
    assert table.blank == {"   ": 7}
    assert table.control == {"<a>": 3}


def test_a_single_byte_is_never_a_control_token() -> None:
    table = token_table(TOKENS, {"a": 0}, [], [("a", "b")])
    assert table.control == {}
    assert table.ordinary["a"] == 0
    assert table.merges == [("a", "b")]


def test_a_merge_that_comes_twice_counts_once_with_its_first_rank() -> None:
    assert token_table(TOKENS, {}, [], [("a", "b"), ("<", "a"), ("a", "b")]).merges == [("a", "b"), ("<", "a")]


@pytest.mark.parametrize("merge", [("a", "x"), ("x", "a"), ("b", "a")])
def test_a_merge_of_unknown_tokens_is_refused_by_name(merge: tuple[str, str]) -> None:
    with pytest.raises(FormatError, match="vocabulary lacks"):
        token_table(TOKENS, {}, [], [merge])


def test_two_tokens_with_one_id_are_refused() -> None:
    with pytest.raises(ConfigError, match="share an id"):
        token_table(TOKENS, {"<b>": 2}, [], [])


@pytest.mark.parametrize("token_id", [-1, 2**31])
def test_an_id_out_of_range_is_refused(token_id: int) -> None:
    with pytest.raises(ConfigError, match=str(token_id)):
        token_table({"a": token_id}, {}, [], [])


def test_a_vocabulary_becomes_an_encoder() -> None:
    table = token_table({"a": 10, "b": 11, "ab": 12}, {"  ": 20}, ["  "], [("a", "b")])
    vocabulary = Vocabulary(
        tokens=table,
        ignores_merges=False,
        pre_tokenizer=ByteLevel(add_prefix_space=False),
        normalizer=None,
        bos_id=None,
        adds_bos=False,
        stop_ids=frozenset(),
    )
    assert vocabulary.build().encode("aba  b").ids == [12, 10, 20, 11]


def test_the_librarys_bare_exception_is_a_format_error() -> None:
    with pytest.raises(FormatError, match=r"the file is refused: no"), LibraryRefusals("the file"):
        raise Exception("no")


def test_a_defect_passes_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), LibraryRefusals("the file"):
        _ = 1 / 0
