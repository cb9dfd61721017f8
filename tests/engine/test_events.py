import dataclasses

import pytest

from longlens.engine.events import FailedEvent, FinishedEvent, TokenEvent
from longlens.engine.turn_record import TurnMeter
from longlens.errors import CapacityError

RECORD = TurnMeter().record(prompt_tokens=1, completion_tokens=0, finish_reason="stop")


@pytest.mark.parametrize(
    "event", [TokenEvent(1, 5), FinishedEvent(1, RECORD, 7), FailedEvent(1, CapacityError("full", "wait"))]
)
def test_events_name_their_sequence_and_cannot_be_changed(event):
    assert event.sequence == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.sequence = 2
