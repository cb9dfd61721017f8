"""Reads one tool call while it is written, from behind its `<tool_call>` on.

    <tool_call>NAME<arg_key>K</arg_key><arg_value>V</arg_value>…</tool_call>

Source: GLM-5's chat template; vLLM's parser glm47.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum, auto

from longlens.text.argument_values import is_text, text_as_json, value_as_json
from longlens.text.events import ToolCallDelta

CALL, END_CALL = "<tool_call>", "</tool_call>"
KEY, END_KEY = "<arg_key>", "</arg_key>"
VALUE, END_VALUE = "<arg_value>", "</arg_value>"
CALL_MARKERS = frozenset({CALL, END_CALL, KEY, END_KEY, VALUE, END_VALUE})

_NAME = re.compile(r"\s*[^\s<]{0,256}\s*")


class CallStage(Enum):
    """What a call's reader waits for, or how it ended."""

    NAME = auto()
    KEY = auto()
    BEFORE_VALUE = auto()
    VALUE = auto()
    AFTER_VALUE = auto()
    FINISHED = auto()
    REFUSED = auto()


# What counts as a marker where markers are written as text. An argument's value may spell all of them but its own end.
_MARKERS = {
    CallStage.NAME: (KEY, END_CALL),
    CallStage.KEY: (END_KEY,),
    CallStage.BEFORE_VALUE: (VALUE, KEY, END_CALL),
    CallStage.VALUE: (END_VALUE,),
    CallStage.AFTER_VALUE: (KEY, END_CALL, CALL),
    CallStage.FINISHED: (),
    CallStage.REFUSED: (),
}


class CallReader:
    """A call becomes events as soon as its name is known; before, it may turn out to be no call.

    Strings in arguments are passed on as they come, other values when they are complete. What stands between an
    argument's parts is ignored.

    Attributes:
        stage: what comes next, or how it ended.
        raw: what was read of a call that is none.

    Args:
        delta: the call's index and id.
        schemas: the JSON schemas of the arguments of each tool, by the tools' names.
    """

    def __init__(self, delta: ToolCallDelta, schemas: Mapping[str, Mapping[str, object]]) -> None:
        self.stage = CallStage.NAME
        self.raw = CALL
        self._delta = delta
        self._schemas = schemas
        self._name = ""
        self._key = ""
        self._value = ""
        self._num_arguments = 0
        self._events: list[ToolCallDelta] = []

    @property
    def is_named(self) -> bool:
        """The name is complete: it is a call."""
        return self.stage not in (CallStage.NAME, CallStage.REFUSED)

    @property
    def markers(self) -> tuple[str, ...]:
        """What counts as a marker next, where markers are written as text."""
        return _MARKERS[self.stage]

    def taken_events(self) -> list[ToolCallDelta]:
        """Return the events since the last time."""
        events, self._events = self._events, []
        return events

    def take_text(self, text: str) -> str:
        """Read text; what is returned does not belong to the call, which is none then."""
        if self.stage is CallStage.NAME:
            return self._take_name(text)
        if self.stage is CallStage.KEY:
            self._key += text
        elif self.stage is CallStage.VALUE and self._is_text:
            self._emit(text_as_json(text)[1:-1])
        elif self.stage is CallStage.VALUE:
            self._value += text
        return ""

    def take_marker(self, marker: str) -> bool:
        """Read a marker; False if the call has ended without it."""
        if self.stage is CallStage.NAME and not self._take_marker_after_name(marker):
            return False
        if self.stage is CallStage.VALUE:
            if marker not in (END_VALUE, KEY, END_CALL):
                self.take_text(marker)
                return True
            self._end_value()
        if marker == END_CALL or (marker == CALL and self.stage is CallStage.AFTER_VALUE):
            self._emit("}" if self._num_arguments else "{}")
            self.stage = CallStage.FINISHED
            return marker == END_CALL
        if marker == KEY and self.stage is not CallStage.KEY:
            self.stage, self._key = CallStage.KEY, ""
        elif marker == END_KEY and self.stage is CallStage.KEY:
            self.stage = CallStage.BEFORE_VALUE
        elif marker == VALUE and self.stage in (CallStage.KEY, CallStage.BEFORE_VALUE):
            self._begin_value()
        else:
            self.take_text(marker)
        return True

    def cut_off(self) -> None:
        """The reply has ended. A call without a name is none; one with a name stays open."""
        if self.stage is CallStage.NAME:
            self._refuse()
        elif self.stage is CallStage.VALUE:
            self._emit(self._value)

    def _take_name(self, text: str) -> str:
        written = self._name + text
        match = _NAME.match(written)
        end = match.end() if match else 0
        self._name = written[:end]
        if end < len(written):
            self._refuse()
        return written[end:]

    def _take_marker_after_name(self, marker: str) -> bool:
        name = self._name.strip()
        if marker not in (KEY, END_CALL) or not name:
            self._refuse()
            return False
        self._delta = replace(self._delta, name=name)
        self._events.append(self._delta)
        self.stage = CallStage.AFTER_VALUE
        return True

    def _refuse(self) -> None:
        self.raw = CALL + self._name
        self.stage = CallStage.REFUSED

    @property
    def _schema(self) -> object:
        return self._schemas.get(self._delta.name, {}).get(self._key)

    @property
    def _is_text(self) -> bool:
        return is_text(self._schema)

    def _begin_value(self) -> None:
        self.stage, self._key, self._value = CallStage.VALUE, self._key.strip(), ""
        opening = ", " if self._num_arguments else "{"
        quote = '"' if self._is_text else ""
        self._num_arguments += 1
        self._emit(f"{opening}{text_as_json(self._key)}: {quote}")

    def _end_value(self) -> None:
        self._emit('"' if self._is_text else value_as_json(self._value, self._schema))
        self.stage, self._value = CallStage.AFTER_VALUE, ""

    def _emit(self, arguments: str) -> None:
        if arguments:
            self._events.append(replace(self._delta, arguments=arguments))
