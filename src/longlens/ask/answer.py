"""A question about a repository: pack, prompt, answer, places.

`prepare` packs the repository and frames it as one prompt; `answer` runs it, turns copied anchors into paths, and
counts what the model looked at.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from longlens.ask.citations import CitationWriter
from longlens.chat.answer_stream import AnswerStream
from longlens.chat.conversation import ChatOptions, Prompt, PromptFrame
from longlens.chat.facade import Asking, LoadedModel
from longlens.chat.request import ChatEvent, Finished
from longlens.engine.events import FinishedEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.session import EngineSession
from longlens.errors import ContextLengthError, UsageError
from longlens.repo.anchors import AnchorStyle
from longlens.repo.base_store import BaseStore, PackSettings, UpdatedPack, store_folder
from longlens.repo.pack import SYSTEM_TEXT, Pack
from longlens.repo.places import Place, PlaceCounter
from longlens.repo.position_map import PositionMap
from longlens.text.reply import TextDelta
from longlens.text.tokenizer import Tokenizer

BACKGROUND_QUESTION = "Where is `x` defined?"
_BACKGROUND = SamplingParams(max_tokens=8)
_PROBE = "def probe(x):  # §12:42 naïve 中文 1234\n"


@dataclass(frozen=True)
class RepositoryQuestion:
    """What is asked about which repository.

    Attributes:
        root: the repository's folder.
        text: the question.
        answer_tokens: room that is kept for the answer.
        cache: folder of the store; None keeps nothing on disk.
        style: which lines get an anchor.
        log: a log file (name, content) that stands last before the question.
        chat: options of the chat template.
    """

    root: Path
    text: str
    answer_tokens: int
    cache: Path | None = None
    style: AnchorStyle = "anchors"
    log: tuple[str, bytes] | None = None
    chat: ChatOptions = field(default_factory=ChatOptions)


@dataclass(frozen=True)
class Preparation:
    """A question that is ready to be read.

    Attributes:
        prompt: token ids, system text and template included.
        positions: which token stands where in the repository.
        updated: the pack, without the question, and how it came to be.
        background_ids: what follows the pack, the log included, when the background's question is asked instead.
    """

    prompt: Prompt
    positions: PositionMap
    updated: UpdatedPack
    background_ids: tuple[int, ...]

    @property
    def question_start(self) -> int:
        """The position of the question's first token; what stands before it is the same for every question."""
        return self.positions.piece_range(len(self.positions.pieces) - 1).start


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Tell tokenizers apart: a digest of every token's bytes and of a text's ids."""
    digest = hashlib.sha256()
    for token_id in range(tokenizer.vocab_size):
        data = tokenizer.token_bytes(token_id)
        digest.update(len(data).to_bytes(4, "little") + data)
    digest.update(repr(tokenizer.encode(_PROBE)).encode())
    return digest.hexdigest()[:32]


def prepare(model: LoadedModel, question: RepositoryQuestion) -> Preparation:
    """Pack a repository and frame it with a question.

    Raises:
        UsageError: an empty question, no folder, or no file that can be packed.
        ContextLengthError: question, log and answer leave no room for the repository.
        TemplateError: the chat template cannot frame a pack.
    """
    if not question.text.strip():
        raise UsageError("the question is empty", 'ask something, for example "where is the indexer defined?"')
    conversation = model.opened.conversation
    tokenizer = conversation.tokenizer
    frame = conversation.frame(SYSTEM_TEXT, question.chat)
    asked = Pack(()).asking(question.text.encode(), log=question.log)
    question_ids = asked.token_ids(tokenizer.encode_bytes)
    budget = _budget(model, question, frame, sum(map(len, question_ids)))
    settings = PackSettings(
        encode=tokenizer.encode_bytes,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        budget_tokens=budget,
        style=question.style,
    )
    folder = None if question.cache is None else store_folder(question.cache, question.root)
    updated = BaseStore(folder).update(question.root, settings, question=question.text.encode())
    whole = updated.pack.asking(question.text.encode(), log=question.log)
    ids = (*updated.ids, *question_ids)
    positions = PositionMap(whole.pieces, ids, tokenizer.token_bytes, offset=len(frame.head_ids))
    prompt = frame.around([token_id for piece in ids for token_id in piece])
    (background,) = Pack(()).asking(BACKGROUND_QUESTION.encode()).token_ids(tokenizer.encode_bytes)
    return Preparation(prompt, positions, updated, (*background, *frame.tail_ids))


def _budget(model: LoadedModel, question: RepositoryQuestion, frame: PromptFrame, question_tokens: int) -> int:
    context = model.plan.context
    around = len(frame.head_ids) + len(frame.tail_ids)
    budget = context - around - question_tokens - question.answer_tokens
    if budget < 1:
        raise ContextLengthError(
            f"question, log and answer take {around + question_tokens + question.answer_tokens} of {context} tokens, "
            "which leaves none for the repository",
            "ask shorter, with a smaller -n, or with a larger --context",
        )
    return budget


@dataclass(frozen=True)
class RepositoryAnswer:
    """How a question ended.

    Attributes:
        finished: counts and times.
        places: what the model looked at, the most first.
        cited: the places that the answer names, in order.
        background_s: seconds that the background's question took after the answer; None if it was not asked.
    """

    finished: Finished
    places: tuple[Place, ...]
    cited: tuple[tuple[str, int], ...]
    background_s: float | None


AskEvent = ChatEvent | RepositoryAnswer


def answer(model: LoadedModel, ready: Preparation, params: SamplingParams, asking: Asking) -> Iterator[AskEvent]:
    """Answer a prepared question.

    The places are counted from what every full layer selects for every token of the answer; counting changes no token.
    Then another question is put after the same pack, and what is selected for it as well does not count.

    Returns:
        The events of `LoadedModel.generate` with anchors turned into paths, but for Finished; then a RepositoryAnswer.
    """
    counter = PlaceCounter(len(ready.prompt.token_ids))
    citations = CitationWriter(ready.positions)
    with closing(model.opened.engine.session()) as session:
        events = session.generate(
            params,
            token_ids=ready.prompt.token_ids,
            rules=asking.rules,
            cancel=asking.cancel,
            on_progress=asking.on_progress,
            on_selection=_counting(counter),
        )
        for event in AnswerStream(events, ready.prompt, model.opened):
            if isinstance(event, Finished):
                rest = citations.finish()
                if rest:
                    yield TextDelta(rest)
                started = time.perf_counter()
                background = None
                if event.finish_reason != "cancelled" and _has_choice(model, ready):
                    background = _background(session, ready, asking)
                seconds = None if background is None else time.perf_counter() - started
                places = tuple(counter.places(ready.positions, background=background))
                yield RepositoryAnswer(event, places, tuple(citations.cited), seconds)
            elif isinstance(event, TextDelta):
                text = citations.push(event.text)
                if text:
                    yield TextDelta(text)
            else:
                yield event


def _has_choice(model: LoadedModel, ready: Preparation) -> bool:
    """Whether layers select at all, and not everything; and whether the background's question fits the context."""
    indexer = model.config.indexer
    if indexer is None or len(ready.prompt.token_ids) <= indexer.index_topk:
        return False
    longest = ready.question_start + len(ready.background_ids) + (_BACKGROUND.max_tokens or 0)
    return longest <= model.plan.context


def _background(session: EngineSession, ready: Preparation, asking: Asking) -> PlaceCounter | None:
    """Count what is selected for the background's question; None if it was cancelled."""
    counter = PlaceCounter(len(ready.prompt.token_ids))
    session.rewind(ready.question_start)
    events = session.generate(
        _BACKGROUND, token_ids=ready.background_ids, cancel=asking.cancel, on_selection=_counting(counter)
    )
    *_, last = events
    is_whole = isinstance(last, FinishedEvent) and last.record.finish_reason != "cancelled"
    return counter if is_whole else None


def _counting(counter: PlaceCounter) -> Callable[[int, Tensor], None]:
    def count(layer: int, positions_K: Tensor) -> None:
        counter.add(layer, positions_K[None].cpu().numpy())

    return count
