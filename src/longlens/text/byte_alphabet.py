"""The printable character that stands for each byte in the tokens of a byte-level vocabulary.

Source: GPT-2's `bytes_to_unicode`; every byte-level BPE of Hugging Face and GGUF uses it.
"""

from __future__ import annotations

_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)

# Bytes that print stand for themselves; the others follow one another from U+0100 on.
CHARACTER_OF_BYTE: tuple[str, ...] = tuple(
    chr(byte if byte in _PRINTABLE else 0x100 + _OTHERS.index(byte)) for byte in range(256)
)
BYTE_OF_CHARACTER: dict[str, int] = {character: byte for byte, character in enumerate(CHARACTER_OF_BYTE)}


def spell(data: bytes) -> str:
    """Write bytes the way a byte-level vocabulary spells them: `b" a"` is `Ġa`."""
    return "".join(CHARACTER_OF_BYTE[byte] for byte in data)


def unspell(token: str) -> bytes:
    """Return the bytes that a token of a byte-level vocabulary stands for.

    A token with characters from outside of the alphabet was added by its text, and stands for that.
    """
    try:
        return bytes([BYTE_OF_CHARACTER[character] for character in token])
    except KeyError:
        return token.encode("utf-8", "replace")
