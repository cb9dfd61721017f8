"""Names in errors."""

from __future__ import annotations

from longlens.formats.quoting import quote, quote_all


def test_control_characters_cannot_break_the_line() -> None:
    assert quote("a\nb\x1b[2J") == r"'a\nb\x1b[2J'"


def test_a_lone_surrogate_can_be_printed() -> None:
    assert quote("\ud800").encode() == rb"'\ud800'"


def test_a_long_name_is_cut() -> None:
    assert quote("x" * 96) == repr("x" * 96)
    assert quote("x" * 97) == repr("x" * 96) + "..."


def test_a_long_list_says_how_many_are_left_out() -> None:
    assert quote_all(["a", "b"], most=2) == "'a', 'b'"
    assert quote_all(["a", "b", "c", "d"], most=2) == "'a', 'b' and 2 more"
