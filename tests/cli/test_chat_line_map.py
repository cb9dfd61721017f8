from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from longlens.chat.dialogue import Exchange, FileSpan
from longlens.cli.chat_line_map import ConversationMap, FileBytes, find_files
from longlens.errors import ShapeError
from longlens.repo.places import PlaceCounter
from longlens.text.messages import Message


def question(*parts: tuple[str, str] | str) -> Exchange:
    """A question of words and of files (name, text), an answer after it."""
    text, files = "", []
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        start, body_start = len(text), len(text) + len(f"--- File: {part[0]} ---\n")
        text += f"--- File: {part[0]} ---\n{part[1]}\n"
        files.append(FileSpan(part[0], start, body_start, body_start + len(part[1])))
    return Exchange(text, Message("assistant", "yes"), files=tuple(files))


def spell(exchanges: Sequence[Exchange]) -> bytes:
    """A chat template that trims what users say."""
    return "".join(f"<user>{each.question.strip()}<assistant>" for each in exchanges).encode()


def cut(prompt: bytes, *sizes: int) -> list[bytes]:
    """Tokens of the sizes given, and of single bytes after them."""
    tokens, end = [], 0
    for size in (*sizes, *[1] * len(prompt)):
        tokens.append(prompt[end : end + size])
        end += size
    return [token for token in tokens if token]


def lines_of(files: Sequence[FileBytes], tokens: Sequence[bytes]) -> list[tuple[bytes, str, int]]:
    """Every counted token with its file and line."""
    positions = ConversationMap(files, range(len(tokens)), lambda token_id: tokens[token_id])
    lines = positions.current_lines()
    assert len(lines) == positions.num_lines
    found = []
    for token, row in zip(tokens, positions.counted_rows().tolist(), strict=True):
        if row >= 0:
            line = lines[row]
            assert line is not None
            found.append((token, line.path, line.line))
    return found


def texts_of_lines(exchanges: Sequence[Exchange]) -> dict[tuple[str, int], bytes]:
    """What the counted tokens of each line spell, a byte a token."""
    prompt = spell(exchanges)
    files = find_files(exchanges, spell, prompt)
    assert files is not None
    found: dict[tuple[str, int], bytes] = {}
    for token, path, line in lines_of(files, cut(prompt)):
        found[path, line] = found.get((path, line), b"") + token
    return found


def test_every_line_has_its_own_tokens_and_nothing_else_is_counted() -> None:
    exchange = question(("a.py", "one\n\n  three"), "\nwhy? one")
    assert texts_of_lines([exchange]) == {("a.py", 1): b"one", ("a.py", 3): b"three"}


def test_bytes_are_counted_not_characters() -> None:
    exchange = question("é中 ", ("ü.py", "é = '中文'\r\nx\r\n\r\n🙂"), "\né")
    assert texts_of_lines([exchange]) == {
        ("ü.py", 1): "é='中文'".encode(),
        ("ü.py", 2): b"x",
        ("ü.py", 4): "🙂".encode(),
    }


def test_a_token_belongs_to_the_line_that_holds_its_first_byte() -> None:
    files = [FileBytes("a", 2, b"ab\ncd\n\nef")]
    tokens = [b"<", b">a", b"b\nc", b"d\n", b"\n", b"\nef-", b"-"]
    with pytest.raises(ShapeError, match="a holds"):
        lines_of(files, tokens)
    tokens = [b"<", b">a", b"b\nc", b"d\n", b"\n", b"ef-", b"-"]
    assert lines_of(files, tokens) == [(b"b\nc", "a", 1), (b"d\n", "a", 2), (b"ef-", "a", 4)]


def test_a_line_break_before_a_word_belongs_to_the_line_that_it_ends() -> None:
    assert lines_of([FileBytes("a", 0, b"ab\ncd")], [b"ab", b"\ncd"]) == [(b"ab", "a", 1), (b"\ncd", "a", 1)]


@pytest.mark.parametrize(("body", "num_lines"), [("", 0), ("\n", 1), ("a", 1), ("a\n", 1), ("a\nb", 2), ("\n\n", 2)])
def test_a_last_line_break_begins_no_line(body: str, num_lines: int) -> None:
    tokens = [*cut(body.encode()), b"end"]
    assert ConversationMap([FileBytes("a", 0, body.encode())], range(len(tokens)), tokens.__getitem__).num_lines == (
        num_lines
    )


def test_a_text_that_imitates_a_heading_is_text() -> None:
    exchange = question(("a.py", "one\n--- File: b.py ---\ntwo\n"), "\n--- File: c.py ---\nthree")
    assert texts_of_lines([exchange]) == {
        ("a.py", 1): b"one",
        ("a.py", 2): b"---File:b.py---",
        ("a.py", 3): b"two",
    }


def test_files_that_say_the_same_are_told_apart() -> None:
    exchange = question(("a.py", "same"), "\n", ("b.py", "same"), "\nsame")
    prompt = spell([exchange])
    files = find_files([exchange], spell, prompt)
    assert files is not None
    assert [(path, line) for _, path, line in lines_of(files, cut(prompt))] == [("a.py", 1)] * 4 + [("b.py", 1)] * 4


def test_a_file_that_is_there_twice_is_one_and_a_changed_one_is_two() -> None:
    twice = [question(("a.py", "same"), "\nfirst"), question(("a.py", "same"), "\nsecond")]
    assert texts_of_lines(twice) == {("a.py", 1): b"samesame"}
    changed = [question(("a.py", "old"), "\nfirst"), question(("a.py", "new"), "\n", ("a.py", "old"), "\nsecond")]
    assert texts_of_lines(changed) == {("a.py (text 1 of 2)", 1): b"oldold", ("a.py (text 2 of 2)", 1): b"new"}


def test_files_of_earlier_turns_are_found() -> None:
    exchanges = [question(("a.py", "one"), "\nfirst"), question("no file"), question(("b.py", "two"), "\n  ")]
    assert texts_of_lines(exchanges) == {("a.py", 1): b"one", ("b.py", 1): b"two"}
    assert texts_of_lines(exchanges[:2]) == {("a.py", 1): b"one"}


def test_words_that_look_like_a_mark_are_words() -> None:
    word = "LonglensFile00000000"
    exchanges = [question(("a.py", word), f"\n{word}x"), question(word)]
    assert texts_of_lines(exchanges) == {("a.py", 1): word.encode()}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper(),
        lambda text: text.replace("\r\n", "\n"),
        lambda text: text + text,
        lambda text: text[:0],
    ],
)
def test_a_template_that_changes_the_text_is_noticed(change: object) -> None:
    assert callable(change)

    def changing(exchanges: Sequence[Exchange]) -> bytes:
        return spell([question(change(each.question)) for each in exchanges])

    exchange = question(("a.py", "one\r\ntwo"), "\nwhy?")
    assert find_files([exchange], changing, changing([exchange])) is None


def test_a_mark_is_not_taken_for_a_file_when_the_rest_differs() -> None:
    exchange = question(("a.py", "one"), "\nwhy?")
    assert find_files([exchange], spell, spell([exchange]) + b"!") is None
    assert find_files([], spell, b"") == []


def test_white_space_in_a_file_is_in_it_but_not_counted() -> None:
    tokens = [b"<", b"a", b" ", b"\n", b"b", b">"]
    positions = ConversationMap([FileBytes("a", 1, b"a \nb")], range(6), tokens.__getitem__)
    assert positions.is_in_file().tolist() == [False, True, True, True, True, False]
    assert positions.counted_rows().tolist() == [-1, 0, -1, -1, 1, -1]
    positions.counted_rows()[:] = 7
    assert positions.counted_rows().tolist() == [-1, 0, -1, -1, 1, -1], "callers change what they get"


def test_files_may_stand_in_another_order_than_they_are_given() -> None:
    tokens = cut(b"<ab|cd>")
    files = [FileBytes("second", 4, b"cd"), FileBytes("first", 1, b"ab")]
    assert [(path, line) for _, path, line in lines_of(files, tokens)] == [("first", 1)] * 2 + [("second", 1)] * 2
    rows = ConversationMap(files, range(7), tokens.__getitem__).counted_rows()
    assert rows.tolist() == [-1, 0, 0, -1, 1, 1, -1], "rows ascend as positions do"


def test_the_map_is_one_that_places_are_counted_over() -> None:
    body = b"\n".join(b"line%04d" % number for number in range(1, 41))
    tokens = cut(b"<user>" + body + b"<assistant>")
    positions = ConversationMap([FileBytes("a.py", 6, body)], range(len(tokens)), tokens.__getitem__)
    assert (positions.offset, positions.end) == (0, len(tokens))
    counter = PlaceCounter(len(tokens))
    start = 6 + body.index(b"line0013")
    for number in range(8):
        counter.add(0, np.array([[*range(start, start + 8), 6 + 40 * number, -1]], dtype=np.int32))
    place = counter.places(positions)[0]
    assert (place.path, place.start, place.end) == ("a.py", 13, 13)
