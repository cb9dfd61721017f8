"""What a model writes, told apart while it is written: reasoning, text for the user, tool calls.

Source: GLM-5's chat template; vLLM's parsers glm45 (reasoning) and glm47 (tool calls).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from longlens.text.call_reader import CALL, CALL_MARKERS, CallReader, CallStage
from longlens.text.events import ReasoningDelta, ReplyEvent, TextDelta, ToolCallDelta, merge_events
from longlens.text.messages import Tool
from longlens.text.segments import Segment

__all__ = [
    "ReasoningDelta",
    "ReplyEvent",
    "ReplyParser",
    "TextDelta",
    "ToolCallDelta",
    "merge_events",
    "opens_reasoning",
]

THINK, END_THINK = "<think>", "</think>"
MARKERS = CALL_MARKERS | {THINK, END_THINK}


def opens_reasoning(prompt: Sequence[Segment]) -> bool:
    """The rendered prompt ends with `<think>`, so that the reply begins inside of the reasoning."""
    for segment in reversed(prompt):
        if segment.text.strip():
            return segment.text.rstrip().endswith(THINK)
    return False


class ReplyParser:
    """Turns a reply, given piece by piece, into events; merged, they are the same however it is cut.

    A piece is a `Segment` (from `StreamDecoder.push_segments`) where the vocabulary has the markers as control
    tokens: then only control tokens are markers, and a model that spells `<think>` with letters says just that. Or it
    is a string, for a model that writes its markers as text: then what spells a marker is one, where it can be one.
    A reply of a model that knows no markers is a stream of text segments.

    - `<tool_call>` inside of the reasoning ends it.
    - White space after the reasoning, before a call and after the last call is dropped; all other is kept.
    - In strings, calls are only looked for if tools were offered, and `<think>` only before any text.
    - A marker out of place is text. So is a call that is no call (`<tool_call>` not followed by a name and `<arg_key>`
      or `</tool_call>`), also one cut off before its name is complete.
    - A call cut off later leaves its arguments open, so that no JSON reader takes them for whole (`unfinished_call`).

    Args:
        tools: what the model may call; their schemas say which arguments are strings.
        starts_in_reasoning: the prompt ended with `<think>` (`opens_reasoning`).
        call_id_prefix: calls are named by it and their index: `call_0`, `call_1`, ….
    """

    def __init__(
        self, *, tools: Sequence[Tool] = (), starts_in_reasoning: bool = False, call_id_prefix: str = "call_"
    ) -> None:
        self._schemas = {tool.name: tool.argument_schemas for tool in tools}
        self._call_id_prefix = call_id_prefix
        self._events: list[ReplyEvent] = []
        self._unread = ""  # strings only: an end that may become a marker
        self._white = ""  # white space after text; dropped if a call follows
        self._in_reasoning = starts_in_reasoning
        self._has_reasoning = False
        self._has_text = False
        self._trims_start = False
        self._call: CallReader | None = None
        self._num_finished_calls = 0

    @property
    def num_calls(self) -> int:
        """How many calls have begun, with a name."""
        return self._num_finished_calls + (self.unfinished_call is not None)

    @property
    def unfinished_call(self) -> int | None:
        """The index of the call that is being written; at the end of the reply, of the one that was cut off."""
        return self._num_finished_calls if self._call is not None and self._call.is_named else None

    def push(self, piece: str | Segment) -> list[ReplyEvent]:
        """Take the next piece and return what is certain by now."""
        if isinstance(piece, str):
            self._unread += piece
            self._read(is_last=False)
        else:
            self._read(is_last=True)
            if piece.is_control and piece.text in MARKERS:
                self._take_marker(piece.text)
            else:
                self._take_text(piece.text)
        return self._taken_events()

    def finish(self) -> list[ReplyEvent]:
        """Say that the reply has ended, and return what was held back."""
        self._read(is_last=True)
        if self._call is not None:
            self._call.cut_off()
            self._follow_call()
        if self._white and not self.num_calls:
            self._events.append(TextDelta(self._white))
        self._white = ""
        return self._taken_events()

    def _taken_events(self) -> list[ReplyEvent]:
        events, self._events = self._events, []
        return events

    def _read(self, *, is_last: bool) -> None:
        """Take text and markers from what is unread, but for an end that may become a marker."""
        while self._unread:
            markers = self._possible_markers()
            found = [(self._unread.find(marker), marker) for marker in markers if marker in self._unread]
            if found:
                end, marker = min(found)
            else:
                marker = ""
                end = len(self._unread) - (0 if is_last else _open_end(self._unread, markers))
            text, self._unread = self._unread[:end], self._unread[end + len(marker) :]
            rest = self._take_text_here(text)
            if rest:
                self._unread = rest + marker + self._unread
            elif not marker:
                return
            elif marker in self._possible_markers():  # the text before it may have ruled it out
                self._take_marker(marker)
            else:
                self._take_text(marker)

    def _possible_markers(self) -> tuple[str, ...]:
        """What counts as a marker in a string, at this place."""
        if self._call is not None:
            return self._call.markers
        calls = (CALL,) if self._schemas else ()
        if self._in_reasoning:
            return (END_THINK, *calls) if self._has_reasoning else (THINK, END_THINK, *calls)
        return calls if self._has_text or self.num_calls else (THINK, *calls)

    def _take_text(self, text: str) -> None:
        while text:
            text = self._take_text_here(text)

    def _take_text_here(self, text: str) -> str:
        """Take text for what is being written; return what is left when it has turned out to be something else."""
        if self._call is not None:
            rest = self._call.take_text(text)
            self._follow_call()
            return rest
        if self._in_reasoning and text:
            self._has_reasoning = True
            self._events.append(ReasoningDelta(text))
        elif text:
            self._say(text)
        return ""

    def _say(self, text: str) -> None:
        text = self._white + text
        if self._trims_start:
            text = text.lstrip()
        said = text.rstrip()
        self._white = text[len(said) :]
        if said:
            self._trims_start = False
            self._has_text = True
            self._events.append(TextDelta(said))

    def _take_marker(self, marker: str) -> None:
        if self._call is not None:
            is_taken = self._call.take_marker(marker)
            self._follow_call()
            if is_taken:
                return
        if marker == CALL:
            index = self._num_finished_calls
            self._call = CallReader(ToolCallDelta(index, f"{self._call_id_prefix}{index}", "", ""), self._schemas)
        elif marker == THINK and not self._in_reasoning:
            self._in_reasoning, self._has_reasoning, self._white = True, False, ""
        elif marker == END_THINK and self._in_reasoning:
            self._in_reasoning, self._trims_start = False, True
        elif marker != THINK or self._has_reasoning:  # one more <think> at the very start says nothing new
            self._take_text(marker)

    def _follow_call(self) -> None:
        """Draw the consequences of what was just read of a call."""
        call = self._call
        if call is None:
            return
        self._events += call.taken_events()
        if call.is_named:
            self._in_reasoning = False
            self._white = ""
        if call.stage is CallStage.FINISHED:
            self._call = None
            self._num_finished_calls += 1
        elif call.stage is CallStage.REFUSED:
            self._call = None
            self._take_text(call.raw)


def _open_end(text: str, markers: Iterable[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a marker."""
    start = text.rfind("<")
    if start < 0 or not any(marker.startswith(text[start:]) for marker in markers):
        return 0
    return len(text) - start
