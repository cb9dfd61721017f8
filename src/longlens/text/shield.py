"""Keeps the text of users apart from control tokens while a chat template mixes both.

A template is a program: it may strip, split, slice, join and replace what users wrote before it prints it next to its
own `<|user|>`. So marks around user text would be lost. Instead, every character that begins or ends a control token
(`<`, `>`, `[`, `]`, `/` in GLM's vocabulary) is swapped, in user text and before the template sees it, for a stand-in:
a rare symbol that occurs nowhere in the input. Stand-ins behave like what they replace under string operations: one
for one, no white space, no letters, printable. When the template is done, control tokens are looked for, and then the
stand-ins are swapped back. A control token needs its first and its last character from the template, so none can come
from user text, however it is cut and joined.

What remains is a template that puts its own brackets around a user's word, `<{{ name }}>` with the name `think`.
Texts in messages that are such an inner part as a whole lose their first character to a stand-in too.

The price: a template that looks for brackets or control tokens in user text does not find them. `</think>` in an
assistant's text is text (see `Message.with_reasoning_apart`), and a filter that encodes brackets (`escape`,
`urlencode`) leaves them or encodes the stand-ins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from longlens.errors import UsageError

# Hexagrams, braille, Tai Xuan Jing symbols; where a text has them all, private use, which `repr` would escape.
_SYMBOLS = (range(0x4DC0, 0x4E00), range(0x2801, 0x2900), range(0x1D300, 0x1D357), range(0xE000, 0xF900))


class Shield:
    """Swaps the characters by which control tokens are known for stand-ins, and back.

    Args:
        spellings: the control tokens.
        texts: all user text, and the template, so that stand-ins can be chosen that are in none.

    Raises:
        UsageError: every possible stand-in is taken.
    """

    def __init__(self, spellings: Iterable[str], texts: Iterable[str]) -> None:
        spellings = sorted(spellings)
        edges = {edge for spelling in spellings for edge in (spelling[0], spelling[-1]) if not edge.isalnum()}
        # A control token without such an edge is broken where it occurs whole, as letters cannot be swapped everywhere.
        plain = [spelling for spelling in spellings if spelling[0].isalnum() and spelling[-1].isalnum()]
        self._inner = {inner for spelling in spellings for inner in _inner_parts(spelling)}
        first_letters = {word[0] for word in (*plain, *self._inner)}
        free = _free_characters({*"".join(spellings)}.union(*map(set, texts)))
        self._stand_in = {character: next(free) for character in sorted(edges | first_letters)}
        self._edges = {edge: self._stand_in[edge] for edge in sorted(edges)}
        self._back = str.maketrans({stand_in: character for character, stand_in in self._stand_in.items()})
        self._plain = re.compile("|".join(map(re.escape, plain))) if plain else None

    @property
    def stand_ins(self) -> frozenset[str]:
        """The characters that mean others."""
        return frozenset(self._stand_in.values())

    def cover(self, text: str, *, is_name: bool = True) -> str:
        """Swap what could become part of a control token.

        Args:
            text: what a user wrote.
            is_name: the template may put the text between brackets of its own.
        """
        is_inner_part = is_name and text.strip() in self._inner
        for edge, stand_in in self._edges.items():
            text = text.replace(edge, stand_in)
        if self._plain is not None:
            text = self._plain.sub(lambda match: self._break(match[0]), text)
        return self._break(text) if is_inner_part else text

    def cover_all(self, value: object, *, are_names: bool = True) -> object:
        """Cover every string in a JSON value, keys included."""
        if isinstance(value, str):
            return self.cover(value, is_name=are_names)
        if isinstance(value, Mapping):
            return {
                self.cover_all(key, are_names=are_names): self.cover_all(item, are_names=are_names)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.cover_all(item, are_names=are_names) for item in value]
        return value

    def uncover(self, text: str) -> str:
        """Swap the stand-ins back."""
        return text.translate(self._back)

    def _break(self, text: str) -> str:
        start = len(text) - len(text.lstrip())
        return text[:start] + self._stand_in.get(text[start], text[start]) + text[start + 1 :]


def strings_of(value: object) -> Iterator[str]:
    """Walk all strings in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings_of(key)
            yield from strings_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_of(item)


def _inner_parts(spelling: str) -> Iterator[str]:
    """What is left of a control token without some of the signs around its words: `|user|`, `user|`, `user`."""
    first = 0 if spelling[0].isalnum() else 1
    last = len(spelling) if spelling[-1].isalnum() else len(spelling) - 1
    starts = [start for start in range(first, last) if not any(map(str.isalnum, spelling[:start]))]
    ends = [end for end in range(first + 1, last + 1) if not any(map(str.isalnum, spelling[end:]))]
    return (spelling[start:end] for start in starts for end in ends if start < end)


def _free_characters(taken: set[str]) -> Iterator[str]:
    for code_points in _SYMBOLS:
        for code_point in code_points:
            if chr(code_point) not in taken:
                yield chr(code_point)
    raise UsageError("the messages use every symbol that could stand for a bracket", "leave some of them out")
