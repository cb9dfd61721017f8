from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from longlens import ReasoningDelta, TextDelta
from longlens.chat.answer_stream import AnswerStream
from longlens.chat.conversation import Conversation, Prompt, conversation_of
from longlens.chat.request import Finished
from longlens.engine.events import FinishedEvent, TokenEvent
from longlens.formats.checkpoint import open_checkpoint
from tests.chat.test_request import RECORD

FIXTURES = Path(__file__).parents[1] / "fixtures"


def world() -> Conversation:
    with open_checkpoint(FIXTURES / "tiny-glm") as checkpoint:
        return conversation_of(checkpoint)


def stream(chat: Conversation, ids: list[int], closed: list[bool], *, in_reasoning: bool = False) -> AnswerStream:
    def events() -> Generator[TokenEvent | FinishedEvent, None, None]:
        try:
            for token_id in ids:
                yield TokenEvent(1, token_id)
            yield FinishedEvent(1, replace(RECORD, completion_tokens=len(ids)))
        finally:
            closed.append(True)

    opened: Any = SimpleNamespace(conversation=chat, load_s=0.5)
    return AnswerStream(events(), Prompt((1,), in_reasoning), opened)


def test_tokens_become_text_and_the_record_comes_last() -> None:
    chat, closed = world(), []
    *pieces, last = stream(chat, chat.tokenizer.encode("héllo wörld"), closed)
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)) == "héllo wörld"
    assert isinstance(last, Finished)
    assert closed == [True]


def test_reasoning_ends_at_the_control_token() -> None:
    chat = world()
    ids = [*chat.tokenizer.encode("hmm"), chat.tokenizer.id_of("</think>"), *chat.tokenizer.encode("yes")]
    kinds = [type(event) for event in stream(chat, ids, [], in_reasoning=True)]
    assert kinds.index(ReasoningDelta) < kinds.index(TextDelta)


def test_bytes_of_an_unfinished_character_are_shown_at_the_end() -> None:
    chat = world()
    ids = chat.tokenizer.encode_bytes("é".encode()[:1])
    *pieces, _ = stream(chat, ids, [])
    assert [piece.text for piece in pieces if isinstance(piece, TextDelta)] == ["\ufffd"]


def test_an_answer_left_half_read_ends_the_request() -> None:
    chat, closed = world(), []
    iterator = iter(stream(chat, chat.tokenizer.encode("hello world"), closed))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert closed == [True]
