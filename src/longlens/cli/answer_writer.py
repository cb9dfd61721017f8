"""An answer as it comes: text to stdout, reasoning to stderr, or both kept for JSON."""

from __future__ import annotations

import json
import sys
import unicodedata

from rich.console import Console

from longlens.cli.messages import print_note
from longlens.text.reply import ReasoningDelta, ReplyEvent, TextDelta


class AnswerWriter:
    """Takes the events of one answer.

    Attributes:
        text: pieces of the answer.
        reasoning: pieces of what the model thought.
        calls: its tool calls by index: id, name, arguments.
    """

    def __init__(self, *, is_silent: bool = False, dims_reasoning: bool = False) -> None:
        """Begin an answer.

        Args:
            is_silent: nothing is written, all is kept.
            dims_reasoning: reasoning is written dim, where stderr is a terminal that wants colours.
        """
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, dict[str, str]] = {}
        self._is_silent = is_silent
        console = Console(stderr=True)
        self._dim = console if dims_reasoning and console.is_terminal and not console.no_color else None
        self._is_in_reasoning = False

    @property
    def has_output(self) -> bool:
        """Whether anything came."""
        return bool(self.text or self.reasoning or self.calls)

    def take(self, event: ReplyEvent) -> None:
        """Write, or keep, the next piece."""
        if isinstance(event, ReasoningDelta):
            self.reasoning.append(event.text)
            self._show_reasoning(event.text)
            return
        self._end_reasoning()
        if isinstance(event, TextDelta):
            self.text.append(event.text)
            if not self._is_silent:
                _write_answer(event.text)
        else:
            call = self.calls.setdefault(event.index, {"id": event.id, "name": event.name, "arguments": ""})
            call["arguments"] += event.arguments

    def end(self) -> None:
        """End the last line."""
        self._end_reasoning()
        if self._is_silent:
            return
        for call in self.calls.values():
            _write_answer(("\n" if self.text else "") + json.dumps(call, ensure_ascii=False))
        _write_answer("\n")

    def _show_reasoning(self, text: str) -> None:
        if self._is_silent:
            return
        self._is_in_reasoning = True
        if self._dim is not None:
            shown = _harmless(text)
            self._dim.print(shown, style="dim", end="", markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            sys.stderr.write(_harmless(text) if sys.stderr.isatty() else text)
        sys.stderr.flush()

    def _end_reasoning(self) -> None:
        if self._is_in_reasoning:
            print_note("")
        self._is_in_reasoning = False


def _write_answer(text: str) -> None:
    sys.stdout.write(_harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _harmless(text: str) -> str:
    """Spell out what a terminal would take for a command: a model may repeat it from any file."""
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) == "Cc" and character not in "\n\t" else character
        for character in text
    )
