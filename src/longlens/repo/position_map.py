"""Every token of a pack back to its file and line, and every line to its tokens, exactly, on any bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from longlens.errors import ShapeError
from longlens.repo.pieces import LineKind, Piece
from longlens.repo.versions import CurrentLine, Versions

TokenBytes = Callable[[int], bytes]
Integers = NDArray[np.int64]

_ANCHOR = re.compile(r"\s*§?(\d{1,9}):(\d{1,9})\s*")
_FILE_KINDS = (LineKind.FILE, LineKind.CONTEXT, LineKind.ADDED, LineKind.REMOVED)


class TokenKind(IntEnum):
    """What the first byte of a token belongs to."""

    OUTSIDE = 0
    """Not a piece: system text, the template's tokens, the answer."""
    HEADER = 1
    """A piece's header or a hunk's head."""
    ANCHOR = 2
    LINE = 3
    """A line of a file, or of a diff (context, added, removed)."""
    QUESTION = 4
    LOG = 5


@dataclass(frozen=True)
class TokenPlace:
    """Where a token stands.

    Attributes:
        kind: what its first byte belongs to.
        piece: the piece's place in the pack; None outside.
        path: the path in the piece's header; empty for the question and outside.
        line: the number of the line that holds the first byte (of a removed line: in the version before), from 1; None
            where there is no such line.
        is_removed: it is a removed line of a diff.
    """

    kind: TokenKind
    piece: int | None
    path: str
    line: int | None
    is_removed: bool


_OUTSIDE = TokenPlace(TokenKind.OUTSIDE, None, "", None, False)
_KIND_OF_LINE = {
    LineKind.HEADER: TokenKind.HEADER,
    LineKind.HUNK: TokenKind.HEADER,
    LineKind.QUESTION: TokenKind.QUESTION,
    LineKind.LOG: TokenKind.LOG,
} | dict.fromkeys(_FILE_KINDS, TokenKind.LINE)


class PositionMap:
    """Tokens and lines of a pack.

    Positions count from the beginning of the sequence. A token belongs to the line that holds its first byte.

    Args:
        pieces: the pack's pieces.
        ids: the token ids of each piece (`Pack.token_ids`).
        token_bytes: the bytes of a token (`Tokenizer.token_bytes`).
        offset: the position of the first piece's first token; what stands before is the template's.

    Raises:
        ShapeError: the bytes of a piece's tokens are not the piece.
    """

    def __init__(
        self, pieces: Sequence[Piece], ids: Sequence[Sequence[int]], token_bytes: TokenBytes, *, offset: int = 0
    ) -> None:
        self.pieces = tuple(pieces)
        self.versions = Versions(pieces)
        self.offset = offset
        self._bases = _sums(len(piece.data) for piece in pieces)
        self._token_bases = _sums(map(len, ids))
        self._token_starts, self._is_blank = _token_starts(pieces, ids, token_bytes)
        rows = [
            (base + line.start, base + line.anchor, base + line.anchor_end, line.number, line.kind, at)
            for at, (piece, base) in enumerate(zip(pieces, self._bases.tolist(), strict=False))
            for line in piece.lines
        ]
        table = np.array(rows, dtype=np.int64).reshape(-1, 6)
        self._starts, self._anchors, self._anchor_ends = table[:, 0], table[:, 1], table[:, 2]
        self._numbers, self._kinds, self._piece_of = table[:, 3], table[:, 4], table[:, 5]
        self._first_row = np.searchsorted(self._piece_of, np.arange(len(pieces) + 1))
        self._row_of_token = np.searchsorted(self._starts, self._token_starts, side="right") - 1

    @property
    def end(self) -> int:
        """The position after the last token of the last piece."""
        return self.offset + len(self._token_starts)

    @property
    def num_lines(self) -> int:
        """Lines of all pieces, headers included; they are numbered in order from 0 as rows."""
        return len(self._starts)

    def place(self, position: int) -> TokenPlace:
        """Return where a token stands."""
        token = position - self.offset
        if not 0 <= token < len(self._token_starts):
            return _OUTSIDE
        row = int(self._row_of_token[token])
        piece = int(self._piece_of[row])
        kind = _KIND_OF_LINE[LineKind(int(self._kinds[row]))]
        if self._anchors[row] <= self._token_starts[token] < self._anchor_ends[row]:
            kind = TokenKind.ANCHOR
        number = int(self._numbers[row])
        is_removed = self._kinds[row] == LineKind.REMOVED
        return TokenPlace(kind, piece, self.pieces[piece].path, number or None, bool(is_removed))

    def piece_range(self, piece: int) -> range:
        """Return the positions of a piece's tokens."""
        return range(self.offset + int(self._token_bases[piece]), self.offset + int(self._token_bases[piece + 1]))

    def tokens_of(self, path: str, line: int) -> range | None:
        """Return the positions of the tokens that hold bytes of a line of a file as it is now, or None.

        Of a line that the pack shows more than once, in the base and in diffs, the last showing counts.
        """
        for tag in reversed(self.versions.tags_of_path(path)):
            for row in self._rows_of_tag(tag):
                now = self.versions.now(tag, int(self._numbers[row]))
                if now == (path, line, False):
                    return self._tokens_of_row(row)
        return None

    def resolve_anchor(self, anchor: str) -> CurrentLine | None:
        """Return where the line that an anchor (`12:42`, `§12:42`) names is now; None if the pack has no such line."""
        match = _ANCHOR.fullmatch(anchor)
        if match is None or int(match[1]) not in self.versions:
            return None
        tag, line = int(match[1]), int(match[2])
        return self.versions.now(tag, line) if 1 <= line <= self.num_lines_of(tag) else None

    def num_lines_of(self, tag: int) -> int:
        """Return how many lines the file had in the version `tag`.

        Raises:
            KeyError: no version has this tag.
        """
        return self.versions.num_lines(tag)

    def current_lines(self) -> list[CurrentLine | None]:
        """Return for every row where the line is now; None for headers, hunks' heads and the question."""
        found: list[CurrentLine | None] = []
        for row, (kind, number) in enumerate(zip(self._kinds.tolist(), self._numbers.tolist(), strict=True)):
            piece = self.pieces[self._piece_of[row]]
            if kind == LineKind.LOG:
                found.append(CurrentLine(piece.path, number, False))
            elif kind == LineKind.REMOVED:
                found.append(CurrentLine(self.versions.now(piece.tag, 1).path, number, True))
            elif kind in _FILE_KINDS:
                found.append(self.versions.now(piece.tag, number))
            else:
                found.append(None)
        return found

    def counted_rows(self) -> Integers:
        """Return for every token from `offset` on the row of its line, and -1 where it is none of a file or log's own.

        Headers, hunks' heads, anchors, the question, and tokens of white space only are none.
        """
        rows = self._row_of_token.copy()
        kinds = self._kinds[rows]
        is_anchor = (self._anchors[rows] <= self._token_starts) & (self._token_starts < self._anchor_ends[rows])
        is_counted = np.isin(kinds, [*map(int, _FILE_KINDS), int(LineKind.LOG)]) & ~is_anchor & ~self._is_blank
        rows[~is_counted] = -1
        return rows

    def _rows_of_tag(self, tag: int) -> list[int]:
        rows: list[int] = []
        for at, piece in enumerate(self.pieces):
            if piece.tag == tag and piece.kind != "deleted":
                rows += [row for row in range(*self._first_row[at : at + 2].tolist()) if self._shows(row)]
        return rows

    def _shows(self, row: int) -> bool:
        return int(self._kinds[row]) in (LineKind.FILE, LineKind.CONTEXT, LineKind.ADDED)

    def _tokens_of_row(self, row: int) -> range:
        start = int(self._starts[row])
        end = int(self._starts[row + 1]) if row + 1 < self.num_lines else int(self._bases[-1])
        first = int(np.searchsorted(self._token_starts, start, side="right")) - 1
        last = int(np.searchsorted(self._token_starts, end, side="left"))
        return range(self.offset + first, self.offset + last)


def _token_starts(
    pieces: Sequence[Piece], ids: Sequence[Sequence[int]], token_bytes: TokenBytes
) -> tuple[Integers, NDArray[np.bool_]]:
    """Return where each token begins in the user message, and whether it is white space only."""
    if len(ids) != len(pieces):
        raise ShapeError(f"{len(pieces)} pieces have token ids of {len(ids)}", "give the ids of each piece")
    known = {token_id: token_bytes(token_id) for token_id in {token_id for piece in ids for token_id in piece}}
    for at, (piece, of_piece) in enumerate(zip(pieces, ids, strict=True)):
        if b"".join(map(known.__getitem__, of_piece)) != piece.data:
            raise ShapeError(f"the tokens of piece {at} spell other bytes than it holds", "use the pack's tokenizer")
    flat = [token_id for piece in ids for token_id in piece]
    starts = _sums(len(known[token_id]) for token_id in flat)[:-1]
    blank = {token_id for token_id, data in known.items() if not data.strip()}
    return starts, np.fromiter((token_id in blank for token_id in flat), dtype=np.bool_, count=len(flat))


def _sums(sizes: Iterable[int]) -> Integers:
    return np.cumsum([0, *sizes], dtype=np.int64)
