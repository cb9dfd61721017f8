"""A repository as one prompt: system text, base, changes, question.

Source: docs/reference/pack-format.md, version 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from longlens.repo.pieces import Piece, log_piece, question_piece

FORMAT_VERSION = 1
SYSTEM_TEXT = (
    "You answer questions about a repository. Its files follow, each below a line with its tag and path, then what "
    "changed since. An anchor such as §12:42 ends line 42 of the file with tag 12. Cite a place by copying its anchor."
)

Encode = Callable[[bytes], Sequence[int]]


@dataclass(frozen=True)
class Pack:
    """The pieces of one user message.

    Attributes:
        base: one piece a file, in ascending order of the paths' bytes.
        changes: what happened since, in the order in which it was seen.
        log: the log file that was given, if one was.
        question: the question, if it is there yet.
    """

    base: tuple[Piece, ...]
    changes: tuple[Piece, ...] = ()
    log: Piece | None = None
    question: Piece | None = None

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """All pieces in the order in which they stand."""
        last = (piece for piece in (self.log, self.question) if piece is not None)
        return (*self.base, *self.changes, *last)

    @cached_property
    def user_bytes(self) -> bytes:
        """The user message."""
        return b"".join(piece.data for piece in self.pieces)

    def asking(self, question: bytes, *, log: tuple[str, bytes] | None = None) -> Pack:
        """Return this pack with a question, and with a log file (name, content) before it."""
        log_of_pack = None if log is None else log_piece(*log)
        return replace(self, log=log_of_pack, question=question_piece(question))

    def token_ids(self, encode: Encode) -> tuple[tuple[int, ...], ...]:
        """Return the token ids of each piece; those of a piece depend on nothing around it.

        Args:
            encode: bytes to ids with nothing added, such as `Tokenizer.encode_bytes`.
        """
        return tuple(tuple(encode(piece.data)) for piece in self.pieces)
