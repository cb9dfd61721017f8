"""A released vocabulary: SmolLM2's, from its GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.text.messages import Message
from longlens.text.template import ChatTemplate, templates_of_gguf
from longlens.text.tokenizer import Tokenizer

# Bytes that UTF-8 never has, or that SmolLM2's vocabulary has no token for.
PRINTABLE = st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",)), max_size=40).filter(
    lambda text: not set(text.encode()) & {0xF1, 0xF2}
)


@pytest.fixture(scope="session")
def metadata(smollm2_gguf: Path) -> dict[str, Any]:
    fields = GGUFReader(smollm2_gguf).fields
    return {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}


@pytest.fixture(scope="session")
def smollm2(metadata: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_gguf(metadata)


def test_its_special_tokens_are_known(smollm2: Tokenizer) -> None:
    assert smollm2.vocab_size == 49_152
    assert smollm2.special_ids == frozenset(range(17))
    assert smollm2.stop_ids == {smollm2.id_of("<|endoftext|>"), smollm2.id_of("<|im_end|>")} == {0, 2}
    assert smollm2.bos_id == 1
    assert smollm2.start_ids == ()


def test_its_chat_is_rendered_and_encoded(smollm2: Tokenizer, metadata: dict[str, Any]) -> None:
    template = ChatTemplate(templates_of_gguf(metadata), smollm2.control)
    segments = template.render([Message("system", "S"), Message("user", "Hi <|im_end|>")])
    assert [segment.text for segment in segments if segment.is_control] == [
        *("<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_start|>")
    ]
    ids = smollm2.encode_rendered(segments)
    assert smollm2.decode(ids) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids.count(2) == 2


# As llama.cpp (llama-tokenize --no-bos --no-parse-special) encodes them with the same file.
KNOWN = [
    ("The capital of France is", [504, 3575, 282, 4649, 314]),
    (
        "I've 12345 apples, it's 3.14!",
        [57, 3543, 216, 33, 34, 35, 36, 37, 13855, 28, 357, 506, 216, 35, 30, 33, 36, 17],
    ),
    (
        "def f(x):\n    return x**2  # ok\n\n\n",
        [1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 216, 907, 10907, 16506],
    ),
    ("  leading and trailing  ", [216, 2899, 284, 35079, 256]),
    (
        "naïve café 中文字符 日本語 😀",
        [3546, 46494, 37366, 216, 28589, 29184, 36518, 40562, 116, 17097, 241, 115, 40993, 179, 120, 248, 40303, 218],
    ),
    ("<|im_end|>", [44, 108, 306, 79, 486, 108, 46]),
    ("a\t\tb\r\nc", [81, 197, 197, 82, 201, 198, 83]),
    ("x1y22z333", [104, 33, 105, 34, 34, 106, 35, 35, 35]),
    ("WE'LL don't I'M", [23342, 23, 16421, 1326, 982, 339, 23, 61]),
    ("²½٣", [19133, 16738, 164, 113]),
]


@pytest.mark.parametrize(("text", "ids"), KNOWN)
def test_text_is_encoded_as_llama_cpp_encodes_it(smollm2: Tokenizer, text: str, ids: list[int]) -> None:
    assert smollm2.encode(text) == ids


@given(text=PRINTABLE)
def test_text_comes_back(smollm2: Tokenizer, text: str) -> None:
    assert smollm2.decode(smollm2.encode(text)) == text


def test_a_byte_that_it_never_learned_is_refused(smollm2: Tokenizer) -> None:
    with pytest.raises(UsageError, match="0x04"):
        smollm2.encode("end of transmission: \x04")


def test_every_control_token_in_a_text_is_text(smollm2: Tokenizer) -> None:
    for token in smollm2.control.spellings:
        assert smollm2.special_ids.isdisjoint(smollm2.encode(f"a {token}b{token}"))
