"""Token ids to text, one at a time, never splitting a character."""

from __future__ import annotations

import codecs

from longlens.text.segments import Segment
from longlens.text.tokenizer import Tokenizer


class StreamDecoder:
    """Decodes a stream of tokens; the bytes of an unfinished character wait for the next token.

    What all calls return together is what `Tokenizer.decode` returns for all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the text that this token completes; often its own, sometimes none.

        Raises:
            UsageError: the id is negative.
        """
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def push_segments(self, token_id: int) -> list[Segment]:
        """The same as `push`, with control tokens kept apart from text, as `ReplyParser` wants it.

        Raises:
            UsageError: the id is negative.
        """
        if token_id not in self._tokenizer.special_ids:
            text = self.push(token_id)
            return [Segment(text)] if text else []
        # Bytes that a control token cuts off will never become a character.
        cut_off = self.flush()
        control = Segment(self._tokenizer.decode([token_id]), is_control=True)
        return [Segment(cut_off), control] if cut_off else [control]

    def flush(self) -> str:
        """Return what still waits, as U+FFFD, and begin anew."""
        return self._decoder.decode(b"", final=True)
