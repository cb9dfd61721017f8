from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.text.segments import ControlTokens
from longlens.text.shield import Shield, strings_of
from tests.text.vocabularies import CONTROL

FRAGMENTS = [*CONTROL, "<", ">", "[", "]", "/", "|", "user", "think", "\n", " ", "x", "䷀"]
TRICKY = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=10).map("".join)


def covered(text: str, spellings: list[str] = CONTROL) -> tuple[Shield, str]:
    shield = Shield(spellings, [text])
    return shield, shield.cover(text)


def names_control_token(text: str) -> bool:
    return any(segment.is_control for segment in ControlTokens(CONTROL).split(text))


@given(TRICKY)
def test_covered_text_holds_no_control_token_and_comes_back(text: str) -> None:
    shield, cover = covered(text)
    assert not names_control_token(cover)
    assert shield.uncover(cover) == text


@given(TRICKY)
def test_covering_is_invisible_to_a_template_that_does_not_look_for_brackets(text: str) -> None:
    shield, cover = covered(text)
    assert len(cover) == len(text)
    for method in ("strip", "lstrip", "rstrip", "split", "splitlines"):
        result = getattr(cover, method)()
        undone = [shield.uncover(part) for part in result] if isinstance(result, list) else shield.uncover(result)
        assert undone == getattr(text, method)()
    assert shield.uncover(repr(cover)) == repr(text)
    assert shield.uncover(json.dumps(cover, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


@given(TRICKY, st.sampled_from(["x", "\n", " ", "<", "|", "think"]), st.integers(0, 9), st.integers(0, 9))
def test_nothing_can_be_cut_and_joined_to_a_control_token(text: str, removed: str, start: int, end: int) -> None:
    _, cover = covered(text)
    assert not names_control_token(cover.replace(removed, ""))
    assert not names_control_token(cover[start:] + cover[:end])
    assert not names_control_token("".join(cover.split(removed)))
    assert not names_control_token(cover[::-1])


@given(TRICKY)
def test_what_a_template_writes_beside_user_text_makes_no_control_token_of_it(text: str) -> None:
    _, cover = covered(text)
    for before, after in (("<", ">"), ("<|", "|>"), ("</", ">"), ("[", "]"), ("/", ""), ("<|us", "|>"), ("<tool_", "")):
        assert not names_control_token(before + cover + after)


@pytest.mark.parametrize("word", ["think", "user", "|user|", " tool_call\n", "gMASK", "nothink", "/think"])
def test_a_word_between_the_templates_own_brackets_is_no_control_token(word: str) -> None:
    shield, cover = covered(word)
    for framed in (f"<{cover.strip()}>", f"<|{cover.strip()}|>", f"[{cover.strip()}]", f"/{cover.strip()}"):
        assert not names_control_token(framed)
    assert shield.uncover(cover) == word
    assert shield.cover(word, is_name=False) == word.replace("/", shield.cover("/"))


@pytest.mark.parametrize("spelling", ["IMG", "x", "END_", "_x"])
def test_control_tokens_of_letters_are_broken_where_they_occur(spelling: str) -> None:
    shield, cover = covered(f"a {spelling} b{spelling}", [spelling])
    assert spelling not in cover
    assert shield.uncover(cover) == f"a {spelling} b{spelling}"


def test_stand_ins_occur_in_no_text() -> None:
    first = Shield(["<a>"], ["b"]).stand_ins
    second = Shield(["<a>"], ["b", *first]).stand_ins
    assert first.isdisjoint(second)


def test_when_every_stand_in_is_taken_the_text_is_refused() -> None:
    everything = "".join(map(chr, range(0x2801, 0x10000)))
    symbols = "".join(map(chr, range(0x1D300, 0x1D357)))
    with pytest.raises(UsageError, match="symbol"):
        Shield(["<a>"], [everything.encode("utf-8", "ignore").decode(), symbols])


def test_every_string_of_a_value_is_covered_and_nothing_else_changes() -> None:
    value = {"<a>": ["<a>", 1, None, True, 1.5, {"k": ("x", "<a>")}]}
    shield = Shield(["<a>"], strings_of(value))
    cover = shield.cover("<a>")
    assert shield.cover_all(value) == {cover: [cover, 1, None, True, 1.5, {"k": ["x", cover]}]}
    assert list(strings_of(value)) == ["<a>", "<a>", "k", "x", "<a>"]


def test_without_control_tokens_nothing_is_covered() -> None:
    shield, cover = covered("<|user|>", [])
    assert cover == "<|user|>"
    assert shield.stand_ins == frozenset()
