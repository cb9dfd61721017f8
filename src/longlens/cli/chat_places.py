"""What the model looked at while it wrote an answer of a chat."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from longlens.ask.report import place_lines
from longlens.chat.dialogue import Dialogue, Exchange
from longlens.cli.chat_line_map import ConversationMap, find_files
from longlens.repo.places import PlaceCounter

# Counts grow with prompt and full layers, so only those of the last answers are kept for /rewind.
MOST_ANSWERS_KEPT = 8


class _Look:
    """What was selected while one answer was written."""

    def __init__(self, exchanges: tuple[Exchange, ...], token_ids: tuple[int, ...]) -> None:
        self.exchanges = exchanges
        self.token_ids = array("q", token_ids)
        self.counter = PlaceCounter(len(token_ids))
        self.times = np.zeros(len(token_ids), dtype=np.int64)
        self.num_selected = 0

    def add(self, layer: int, positions_K: NDArray[np.int32]) -> None:
        self.counter.add(layer, positions_K[None])
        chosen = positions_K[positions_K >= 0]
        self.times[chosen[chosen < len(self.times)]] += 1
        self.num_selected += len(chosen)


class ChatPlaces:
    """Counts what answers looked at, and says it.

    Counting is all that happens while an answer is written; files and lines are looked for when somebody asks.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        """Begin with no counts."""
        self._dialogue = dialogue
        self._looks: dict[int, _Look] = {}

    def watch(self) -> Callable[[int, Tensor], None]:
        """Return what the next answer's selections are told to (`Asking.on_selection`).

        An answer that is refused or stopped before its first token leaves all counts as they were.
        """
        look: _Look | None = None

        def count(layer: int, positions_K: Tensor) -> None:
            nonlocal look
            if look is None:
                look = self._begin()
            look.add(layer, positions_K.cpu().numpy())

        return count

    def lines(self) -> Iterator[str]:
        """Say what the last answer of the conversation looked at, a line at a time, or why that is not known."""
        dialogue = self._dialogue
        topk = dialogue.index_topk
        look = self._looks.get(len(dialogue.exchanges) - 1)
        if topk is None:
            yield "no places: this model has no indexer that selects positions, it attends to all of them"
        elif dialogue.is_unanswered:
            yield "no places yet: the last message has no answer; /regen gives it one"
        elif not dialogue.exchanges:
            yield "no places yet: there is no answer"
        elif look is None:
            yield f"no places: counts are kept for the last {MOST_ANSWERS_KEPT} answers only; /regen answers anew"
        elif not any(exchange.files for exchange in look.exchanges):
            yield "no places: the answer was given no files; /read, /glob or /add some before the next message"
        elif len(look.token_ids) <= topk:
            yield (
                f"no places: the prompt has {len(look.token_ids)} tokens and the model selects {topk} for each token "
                "that it writes, so it looked at all of them"
            )
        else:
            yield from self._lines_of(look)

    def _begin(self) -> _Look:
        # Before an answer's first token is made, the session holds its prompt and nothing else.
        dialogue = self._dialogue
        look = _Look(dialogue.exchanges, dialogue.token_ids)
        number = len(dialogue.exchanges) - 1
        kept = range(number - MOST_ANSWERS_KEPT + 1, number)
        self._looks = {each: self._looks[each] for each in kept if each in self._looks} | {number: look}
        return look

    def _lines_of(self, look: _Look) -> Iterator[str]:
        token_bytes = self._dialogue.token_bytes
        prompt = b"".join(map(token_bytes, look.token_ids))
        files = find_files(look.exchanges, self._dialogue.spell, prompt)
        if files is None:
            yield "no places: the chat template does not write the files' text as it is, so their tokens are not known"
            return
        positions = ConversationMap(files, look.token_ids, token_bytes)
        places = look.counter.places(positions)
        yield from place_lines(places) if places else ("no line of the files stands out",)
        is_in_file = positions.is_in_file()
        share = look.times[is_in_file].sum() / max(look.num_selected, 1)
        yield (
            f"{share:.1%} of all looks went to the files, which are {is_in_file.mean():.1%} of the prompt; "
            "the others to the rest of the conversation"
        )
