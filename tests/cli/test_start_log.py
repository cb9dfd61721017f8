from __future__ import annotations

from dataclasses import replace

from longlens.chat.request import finished
from longlens.cli.start_log import end_line, pressure_line
from longlens.machine import MemoryPressure
from tests.chat.test_request import RECORD


def test_swap_is_none_or_its_size_or_unknown() -> None:
    assert pressure_line("now", MemoryPressure(0, 3)) == "swap: none, major faults 3 (now)"
    assert pressure_line("now", MemoryPressure(2**20, 3)) == "swap: 1.0 MiB, major faults 3 (now)"
    assert pressure_line("now", MemoryPressure(None, None)) == "swap: unknown, major faults unknown (now)"


def test_the_end_says_what_was_read_and_what_was_cached() -> None:
    line = end_line(finished(RECORD, 0.0))
    assert "prompt 10 tokens, 4 cached, 6 read at 12.0 tok/s" in line
    assert "answer 3 tokens at 12.0 tok/s; stop" in line


def test_an_answer_without_tokens_has_no_first_token() -> None:
    silent = replace(RECORD, completion_tokens=0, ttft_s=None)
    assert "no token; answer 0 tokens; stop" in end_line(finished(silent, 0.0))
