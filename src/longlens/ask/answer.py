"""A question about a repository: pack, prompt, answer, places.

`prepare` packs the repository and frames it as one prompt; `answer` runs it, turns copied anchors into paths, and
counts what the model looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from longlens.ask.citations import CitationWriter
from longlens.chat.conversation import ChatOptions, Prompt, PromptFrame
from longlens.chat.facade import Asking, LoadedModel
from longlens.chat.request import ChatEvent, Finished
from longlens.engine.sampling import SamplingParams
from longlens.errors import ContextLengthError, UsageError
from longlens.repo.anchors import AnchorStyle
from longlens.repo.base_store import BaseStore, PackSettings, UpdatedPack, store_folder
from longlens.repo.pack import SYSTEM_TEXT, Pack
from longlens.repo.places import Place, PlaceCounter
from longlens.repo.position_map import PositionMap
from longlens.text.reply import TextDelta
from longlens.text.tokenizer import Tokenizer

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
    """

    prompt: Prompt
    positions: PositionMap
    updated: UpdatedPack


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
    return Preparation(prompt, positions, updated)


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
    """

    finished: Finished
    places: tuple[Place, ...]
    cited: tuple[tuple[str, int], ...]


AskEvent = ChatEvent | RepositoryAnswer


def answer(model: LoadedModel, ready: Preparation, params: SamplingParams, asking: Asking) -> Iterator[AskEvent]:
    """Answer a prepared question.

    The places are counted from what every full layer selects for every token of the answer; counting changes no token.

    Returns:
        The events of `LoadedModel.generate` with anchors turned into paths, but for Finished; then a RepositoryAnswer.
    """
    counter = PlaceCounter(len(ready.prompt.token_ids))
    citations = CitationWriter(ready.positions)
    events = model.generate(ready.prompt, params, replace(asking, on_selection=_counting(counter)))
    for event in events:
        if isinstance(event, Finished):
            rest = citations.finish()
            if rest:
                yield TextDelta(rest)
            places = tuple(counter.places(ready.positions))
            yield RepositoryAnswer(event, places, tuple(citations.cited))
        elif isinstance(event, TextDelta):
            text = citations.push(event.text)
            if text:
                yield TextDelta(text)
        else:
            yield event


def _counting(counter: PlaceCounter) -> Callable[[int, Tensor], None]:
    def count(layer: int, positions_K: Tensor) -> None:
        counter.add(layer, positions_K[None].cpu().numpy())

    return count
