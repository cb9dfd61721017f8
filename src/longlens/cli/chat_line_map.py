"""Which token of a conversation belongs to which line of which file that was put into it.

Nothing is read out of the text: where a file's text lies in its message is known from when it was put there, and where
that is in the prompt is found by rendering the conversation once more with a mark in its place. So no text can pass
itself off as a file, and files that say the same are told apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from longlens.chat.dialogue import Exchange
from longlens.errors import ShapeError
from longlens.repo.versions import CurrentLine

# Letters and digits only, so that no template trims or breaks it.
_MARK = "LonglensFile"
_MARK_DIGITS = 8


@dataclass(frozen=True)
class FileBytes:
    """Where a file's text lies in the bytes of a prompt.

    Attributes:
        name: what the file is called.
        start: where the first byte of its own text lies, after its heading.
        body: its own text.
    """

    name: str
    start: int
    body: bytes


def find_files(
    exchanges: Sequence[Exchange], spell: Callable[[Sequence[Exchange]], bytes], prompt: bytes
) -> list[FileBytes] | None:
    """Find the files of a conversation in the bytes of its prompt.

    Args:
        exchanges: the conversation up to the question that was answered.
        spell: the bytes of the prompt that other exchanges make (`Dialogue.spell`).
        prompt: the bytes of what was read.

    Returns:
        The files as they follow each other in the conversation; None where the chat template does not write their text
        once and as it is.
    """
    mark = _absent_mark(exchanges)
    marks: dict[bytes, tuple[str, bytes, bytes]] = {}
    marked = [_marked(exchange, mark, marks) for exchange in exchanges]
    spelled = spell(marked)
    if any(spelled.count(each) != 1 for each in marks):
        return None
    found: dict[bytes, FileBytes] = {}
    pieces: list[bytes] = []
    length = end = 0
    for each in sorted(marks, key=spelled.index):
        name, heading, body = marks[each]
        before = spelled[end : spelled.index(each)]
        found[each] = FileBytes(name, length + len(before) + len(heading), body)
        pieces += (before, heading, body)
        length += len(before) + len(heading) + len(body)
        end = spelled.index(each) + len(each)
    is_as_given = b"".join((*pieces, spelled[end:])) == prompt
    return [found[each] for each in marks] if is_as_given else None


def _absent_mark(exchanges: Iterable[Exchange]) -> str:
    texts = [exchange.question for exchange in exchanges]
    texts += [f"{exchange.answer.text}\n{exchange.answer.reasoning or ''}" for exchange in exchanges if exchange.answer]
    mark = _MARK
    while any(mark in text for text in texts):
        mark += "x"
    return mark


def _marked(exchange: Exchange, mark: str, marks: dict[bytes, tuple[str, bytes, bytes]]) -> Exchange:
    """Put a mark in each file's place, and note which is whose: name, heading and text."""
    question = exchange.question
    pieces: list[str] = []
    end = 0
    for file in exchange.files:
        each = f"{mark}{len(marks):0{_MARK_DIGITS}}"
        heading, body = question[file.start : file.body_start], question[file.body_start : file.body_end]
        marks[each.encode()] = (file.name, heading.encode(), body.encode())
        pieces += (question[end : file.start], each)
        end = file.body_end
    return replace(exchange, question="".join((*pieces, question[end:])))


class ConversationMap:
    """The lines of the files in a prompt: a `LineMap` for `PlaceCounter`.

    A token belongs to the line that holds its first byte. Tokens of white space only are not counted, nor is anything
    outside of the files' own texts. A name that stands for texts that differ is followed by the text's number.

    Args:
        files: the files in the prompt's bytes.
        token_ids: the prompt.
        token_bytes: what a token stands for.

    Raises:
        ShapeError: a file's text is not where it is said to be.
    """

    offset = 0

    def __init__(
        self, files: Sequence[FileBytes], token_ids: Sequence[int], token_bytes: Callable[[int], bytes]
    ) -> None:
        files = sorted(files, key=lambda file: file.start)  # so that rows ascend as positions do
        known = {token_id: token_bytes(token_id) for token_id in set(token_ids)}
        blank = {token_id for token_id, data in known.items() if not data.strip()}
        prompt = b"".join(map(known.__getitem__, token_ids))
        sizes = np.fromiter((len(known[token_id]) for token_id in token_ids), dtype=np.int64, count=len(token_ids))
        starts = np.cumsum(sizes) - sizes
        self.end = len(token_ids)
        self._rows = np.full(self.end, -1, dtype=np.int64)
        self._lines: list[CurrentLine | None] = []
        for name, file in zip(_names(files), files, strict=True):
            if prompt[file.start : file.start + len(file.body)] != file.body:
                raise ShapeError(f"the tokens spell other bytes than {name} holds", "find the file in these tokens")
            line_starts = _line_starts(file.body) + file.start
            first, last = np.searchsorted(starts, [file.start, file.start + len(file.body)]).tolist()
            within = np.searchsorted(line_starts, starts[first:last], side="right") - 1
            self._rows[first:last] = len(self._lines) + within
            self._lines += (CurrentLine(name, number, False) for number in range(1, len(line_starts) + 1))
        self._is_blank = np.fromiter((each in blank for each in token_ids), dtype=np.bool_, count=self.end)

    @property
    def num_lines(self) -> int:
        """Lines of all files."""
        return len(self._lines)

    def is_in_file(self) -> NDArray[np.bool_]:
        """Tell for every token whether it belongs to a file's text, white space included."""
        return self._rows >= 0

    def counted_rows(self) -> NDArray[np.int64]:
        """Return for every token the row of its line, -1 where it is not counted."""
        return np.where(self._is_blank, -1, self._rows)

    def current_lines(self) -> list[CurrentLine | None]:
        """Return for every row its file and line, as they were put into the conversation."""
        return list(self._lines)


def _names(files: Sequence[FileBytes]) -> Iterator[str]:
    """A file that was changed and put in anew is two texts under one name, whose lines must not be added up."""
    texts: defaultdict[str, list[bytes]] = defaultdict(list)
    for file in files:
        if file.body not in texts[file.name]:
            texts[file.name].append(file.body)
    for file in files:
        of_name = texts[file.name]
        number = f" (text {of_name.index(file.body) + 1} of {len(of_name)})" if len(of_name) > 1 else ""
        yield file.name + number


def _line_starts(body: bytes) -> NDArray[np.int64]:
    breaks = np.flatnonzero(np.frombuffer(body, dtype=np.uint8) == ord("\n")) + 1
    starts = np.concatenate(([0], breaks))
    return np.asarray(starts[starts < len(body)], dtype=np.int64)
