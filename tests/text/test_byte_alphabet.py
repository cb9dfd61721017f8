from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from longlens.text.byte_alphabet import BYTE_OF_CHARACTER, CHARACTER_OF_BYTE, spell, unspell


def test_the_alphabet_is_the_one_of_byte_level_vocabularies() -> None:
    assert set(CHARACTER_OF_BYTE) == set(ByteLevel.alphabet())
    assert len(BYTE_OF_CHARACTER) == 256


@given(st.text())
def test_text_is_spelled_as_the_tokenizers_library_spells_it(text: str) -> None:
    pieces = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    assert spell(text.encode()) == "".join(piece for piece, _ in pieces)


@given(st.binary())
def test_spelling_loses_no_byte(data: bytes) -> None:
    assert unspell(spell(data)) == data


def test_a_token_from_outside_of_the_alphabet_stands_for_its_text() -> None:
    assert unspell("a b") == b"a b"
    assert unspell("\uff5c") == "\uff5c".encode()
