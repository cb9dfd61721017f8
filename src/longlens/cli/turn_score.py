"""After a turn: what was predicted for it beside what it took, for `longlens plan --score`."""

from __future__ import annotations

from pathlib import Path

from longlens.chat.opening import OpenedModel
from longlens.chat.request import Finished
from longlens.cli.messages import print_note
from longlens.plan.score import Turn, keep_score


def keep_turn_score(opened: OpenedModel, finished: Finished, folder: Path | None) -> None:
    """Keep a turn that came to its end; say why if it cannot be kept.

    Args:
        opened: the model.
        finished: how the turn ended; one that was stopped is no measurement.
        folder: where records are kept; None keeps none, and without a profile of the machine none is made.
    """
    if finished.finish_reason == "cancelled":
        return
    usage, timings = finished.usage, finished.timings
    turn = Turn(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, timings.ttft_s, timings.decode_s)
    note = keep_score(folder, opened.config, opened.plan, turn)
    if note is not None:
        print_note(note)
