"""Token events become reasoning, text and tool calls, as they come."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from longlens.chat.conversation import Prompt
from longlens.chat.opening import OpenedModel
from longlens.chat.request import ChatEvent, finished
from longlens.engine.events import FinishedEvent, TokenEvent
from longlens.text.reply import ReplyParser
from longlens.text.segments import Segment
from longlens.text.stream_decoder import StreamDecoder


class AnswerStream:
    """Iterates over an answer. Closing it, or leaving it half read and collected, ends the request."""

    def __init__(
        self, events: Generator[TokenEvent | FinishedEvent, None, None], prompt: Prompt, opened: OpenedModel
    ) -> None:
        """Wrap the events of one request."""
        self._events = events
        self._parser = ReplyParser(tools=prompt.tools, starts_in_reasoning=prompt.starts_in_reasoning)
        self._decoder = StreamDecoder(opened.conversation.tokenizer)
        self._load_s = opened.load_s

    def __iter__(self) -> Iterator[ChatEvent]:
        try:
            for event in self._events:
                if isinstance(event, FinishedEvent):
                    yield from self._rest()
                    yield finished(event.record, self._load_s)
                    return
                for segment in self._decoder.push_segments(event.token_id):
                    yield from self._parser.push(segment)
        finally:
            self._events.close()

    def _rest(self) -> Iterator[ChatEvent]:
        held = self._decoder.flush()
        if held:
            yield from self._parser.push(Segment(held))
        yield from self._parser.finish()
