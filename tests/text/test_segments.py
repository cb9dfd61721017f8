from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from longlens.text.segments import ControlTokens, Segment
from tests.text.vocabularies import CONTROL


def test_control_tokens_are_found_where_they_stand() -> None:
    segments = ControlTokens(["<a>", "<b>"]).split("x<a><b> y<a")
    assert segments == [
        Segment("x"),
        Segment("<a>", is_control=True),
        Segment("<b>", is_control=True),
        Segment(" y<a"),
    ]


def test_of_two_that_begin_at_one_place_the_longest_is_meant() -> None:
    segments = ControlTokens(["<a", "<a>", "<a>>"]).split("<a>>")
    assert segments == [Segment("<a>>", is_control=True)]


def test_signs_of_patterns_are_only_signs() -> None:
    segments = ControlTokens(["[a]", "<|.|>"]).split("a<|x|>[a]")
    assert segments == [Segment("a<|x|>"), Segment("[a]", is_control=True)]


def test_without_control_tokens_all_is_text() -> None:
    assert ControlTokens([]).split("<|user|>") == [Segment("<|user|>")]
    assert ControlTokens([""]).split("") == []


@given(st.lists(st.sampled_from([*CONTROL, "x", "<", " ", "|user|>"])))
def test_no_character_is_lost(words: list[str]) -> None:
    text = "".join(words)
    segments = ControlTokens(CONTROL).split(text)
    assert "".join(segment.text for segment in segments) == text
    assert all(segment.is_control == (segment.text in CONTROL) for segment in segments)
