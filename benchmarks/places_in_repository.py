"""How high the line that an answer cites stands among the places that the model looked at.

    python benchmarks/places_in_repository.py MODEL ROOT CONTEXT QUESTIONS DEVICE

A pack is read once and forked for every question. QUESTIONS definitions (`def` or `class`, a name that the pack defines
once) are taken at even distances; of each it is asked where it is and what its signature is. An answer is right if the
last anchor in it is the definition's. The rank is that of the range that holds this line, from 1; null if none does.
Every right answer is ranked twice: alone, and against what was selected for the answer to `NEUTRAL`. Prints one JSON
object.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import longlens
from longlens.ask.answer import Preparation, RepositoryQuestion, prepare
from longlens.chat.facade import Asking, LoadedModel, Session
from longlens.repo.pack import Pack
from longlens.repo.places import Place, PlaceCounter

NEUTRAL = "Where is `x` defined?"
QUESTIONS = {"where": "Where is `%s` defined?", "signature": "What is the signature of `%s` ?"}
_MOST_TOKENS = 48
_ANCHOR = re.compile(r"§(\d{1,9}:\d{1,9})")
# Not \s: a line that begins with a newline is an empty one, and the definition below it would be found twice.
_DEFINITION = re.compile(rb"[ \t]*(?:async\s+)?(?:def|class)\s+(\w{4,})")


@dataclass(frozen=True)
class Definition:
    """A name and the line that defines it."""

    name: str
    path: str
    line: int


def definitions(pack: Pack) -> list[Definition]:
    """Every name that the base defines once, in order."""
    found = []
    for piece in pack.base:
        if piece.path.endswith(".py"):
            for line in piece.lines:
                match = _DEFINITION.match(piece.data, line.start)
                if match and line.number:
                    found.append(Definition(match[1].decode(), piece.path, line.number))
    counts = Counter(each.name for each in found)
    return [each for each in found if counts[each.name] == 1]


class Asker:
    """Asks about one pack, which is read once."""

    def __init__(self, model: LoadedModel, ready: Preparation) -> None:
        """Read the pack up to the question."""
        self._tokenizer = model.opened.conversation.tokenizer
        ids = ready.prompt.token_ids
        self.num_read = ready.positions.piece_range(len(ready.positions.pieces) - 1).start
        self._tail = ids[ready.positions.end :]
        self._pack: Session = model.session()
        self._pack.extend(ids[: self.num_read])

    def ask(self, question: str) -> tuple[str, PlaceCounter]:
        """Return the answer, and what was selected for it."""
        pieces = Pack(()).asking(question.encode()).token_ids(self._tokenizer.encode_bytes)
        own = [*(token_id for piece in pieces for token_id in piece), *self._tail]
        counter = PlaceCounter(self.num_read)
        with self._pack.fork() as fork:
            fork.extend(own)
            watching = Asking(on_selection=lambda layer, positions_K: counter.add(layer, positions_K[None].numpy()))
            list(fork.generate(longlens.SamplingParams(max_tokens=_MOST_TOKENS), watching))
            said = self._tokenizer.decode(fork.tokens[self.num_read + len(own) :]).strip()
        return said, counter


def rank(places: Sequence[Place], wanted: Definition) -> int | None:
    """The rank of the range that holds a definition's line, from 1."""
    for at, place in enumerate(places, start=1):
        if place.path == wanted.path and place.start <= wanted.line <= place.end and not place.is_removed:
            return at
    return None


def summary(ranks: Sequence[int | None]) -> dict[str, float]:
    """How many there are, and which part of them is first, in the first 3, 5 and 8."""
    total = max(1, len(ranks))
    parts = {f"top{most}": sum(1 for each in ranks if each and each <= most) / total for most in (1, 3, 5, 8)}
    return {"right": len(ranks)} | {name: round(part, 3) for name, part in parts.items()}


def main() -> None:
    name, root, context, questions, device = sys.argv[1:6]
    with longlens.load(name, device=device, context=int(context), dtype="f32") as model:
        ready = prepare(model, RepositoryQuestion(Path(root), NEUTRAL, answer_tokens=2 * _MOST_TOKENS))
        known = definitions(ready.updated.pack)
        asked = known[:: max(1, len(known) // int(questions))][: int(questions)]
        asker = Asker(model, ready)
        neutral_answer, background = asker.ask(NEUTRAL)
        answers: list[dict[str, Any]] = []
        for kind, form in QUESTIONS.items():
            for wanted in asked:
                said, counter = asker.ask(form % wanted.name)
                cited = [ready.positions.resolve_anchor(anchor) for anchor in _ANCHOR.findall(said)]
                is_right = bool(cited) and cited[-1] == (wanted.path, wanted.line, False)
                place = f"{wanted.path}:{wanted.line}"
                answer: dict[str, Any] = {"kind": kind, "name": wanted.name, "place": place, "said": said}
                answer["is_right"] = is_right
                if is_right:
                    answer["rank"] = rank(counter.places(ready.positions), wanted)
                    against = counter.places(ready.positions, background=background)
                    answer["rank_against_background"] = rank(against, wanted)
                answers.append(answer)
    summaries = {
        kind: {
            field: summary([each[field] for each in answers if each["kind"] == kind and each["is_right"]])
            for field in ("rank", "rank_against_background")
        }
        for kind in QUESTIONS
    }
    result = {
        "read_tokens": asker.num_read,
        "definitions": len(known),
        "asked": len(asked),
        "neutral": {"question": NEUTRAL, "said": neutral_answer},
        "summaries": summaries,
        "answers": answers,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
