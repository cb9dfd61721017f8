from __future__ import annotations

import pytest

from longlens.errors import UnsupportedModelError
from longlens.text.byte_alphabet import unspell
from longlens.text.pretokenizers import PRE_TOKENIZATIONS, pre_tokenization

TEXT = "I'LL don't  see 12345 x1²\n\n  yes"


def words(name: str, text: str) -> list[str]:
    pieces = pre_tokenization(name).build().pre_tokenize_str(text)
    return [unspell(piece).decode() for piece, _ in pieces]


@pytest.mark.parametrize("name", ["glm4", "glm5", "chatglm-bpe", "llama-bpe"])
def test_digits_go_in_threes_and_contractions_ignore_case(name: str) -> None:
    assert words(name, TEXT) == [
        *("I", "'LL", " don", "'t", " ", " see", " ", "123", "45", " x", "1²", "\n\n", " ", " yes"),
    ]
    assert words(name, "it'Sx it'sX") == ["it", "'S", "x", " it", "'s", "X"]


def test_qwen2_cuts_every_digit() -> None:
    assert words("qwen2", TEXT) == [
        *("I", "'LL", " don", "'t", " ", " see", " ", "1", "2", "3", "4", "5", " x", "1", "²", "\n\n", " ", " yes"),
    ]


def test_gpt_2_keeps_numbers_whole_and_knows_small_contractions() -> None:
    assert words("gpt-2", TEXT) == [
        *("I", "'", "LL", " don", "'t", " ", " see", " 12345", " x", "1²", "\n\n ", " yes"),
    ]


def test_smollm_cuts_every_digit_and_then_as_gpt_2() -> None:
    assert words("smollm", TEXT) == [
        *("I", "'", "LL", " don", "'t", " ", " see", " ", "1", "2", "3", "4", "5", " x", "1", "²", "\n\n ", " yes"),
    ]


def test_deepseek_v3_sets_chinese_and_kana_apart() -> None:
    text = "a.b中文かな12345 _x e\u0301?!\n"
    assert words("deepseek-v3", text) == ["a", ".b", "中文かな", "123", "45", " _", "x", " e\u0301", "?!\n"]


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZATIONS))
def test_no_byte_is_lost_by_cutting(name: str) -> None:
    text = " a'S 1234 中文\u3000かな\r\n\t  !!\n x\u00a0y 😀é "
    assert "".join(words(name, text)) == text


def test_whole_words_are_looked_up_where_llama_cpp_does() -> None:
    looking = {name for name, kind in PRE_TOKENIZATIONS.items() if kind.ignores_merges}
    assert looking == {"glm4", "glm5", "llama-bpe"}


def test_only_llama_prompts_begin_with_bos_by_default() -> None:
    assert {name for name, kind in PRE_TOKENIZATIONS.items() if kind.adds_bos} == {"llama-bpe"}


@pytest.mark.parametrize("name", ["tekken", "", None, 7])
def test_another_way_of_cutting_is_refused_with_the_known_ones(name: object) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        pre_tokenization(name)
    assert all(known in caught.value.mend for known in PRE_TOKENIZATIONS)
