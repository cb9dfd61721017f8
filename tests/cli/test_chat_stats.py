from __future__ import annotations

from pathlib import Path

import longlens
from longlens import SamplingParams
from longlens.chat.dialogue import Dialogue
from longlens.chat.facade import Asking
from longlens.chat.request import Finished
from longlens.cli.chat_stats import ChatTotals, stats_lines
from tests.cli.terminal import TINY


def test_totals_add_up_and_the_room_that_is_left_is_said() -> None:
    totals = ChatTotals()
    assert Path(TINY).is_file()
    with longlens.load(TINY, device="cpu", context=256) as model, Dialogue(model) as dialogue:
        assert "0 of 256 tokens taken, 256 left" in "\n".join(stats_lines(dialogue, totals))
        params = SamplingParams(max_tokens=3, ignore_eos=True)
        for events in (dialogue.ask("hello", params, Asking()), dialogue.answer_again(params, Asking())):
            for event in events:
                if isinstance(event, Finished):
                    totals.take(event)
        assert totals.last is not None
        prompt = totals.last.usage.prompt_tokens
        text = "\n".join(stats_lines(dialogue, totals))
    assert (totals.num_answers, totals.read_tokens, totals.cached_tokens) == (2, prompt + 1, prompt - 1)
    assert "conversation: 1 turns, 2 messages" in text
    assert f"{prompt + 3} of 256 tokens taken, {256 - prompt - 3} left" in text
    assert f"prompt {prompt} tokens, {prompt - 1} cached, 1 read" in text
