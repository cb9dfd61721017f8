from __future__ import annotations

from longlens.chat.request import finished
from longlens.engine.turn_record import TurnRecord

RECORD = TurnRecord(
    prompt_tokens=10,
    cached_tokens=4,
    read_tokens=6,
    completion_tokens=3,
    prefill_s=0.5,
    decode_s=0.25,
    ttft_s=0.6,
    finish_reason="stop",
)


def test_rows_kept_from_an_earlier_turn_come_from_memory() -> None:
    usage = finished(RECORD, 1.0).usage
    assert (usage.cached_tokens, usage.read_tokens, usage.cache_source) == (4, 6, "memory")


def test_the_last_event_as_json_has_the_contracts_fields() -> None:
    data = finished(RECORD, 1.0).as_json()
    assert data["finish_reason"] == "stop"
    assert data["timings"] == {"load_s": 1.0, "ttft_s": 0.6, "prefill_s": 0.5, "decode_s": 0.25}
    assert set(data["usage"]) == {  # type: ignore[call-overload]
        *("prompt_tokens", "cached_tokens", "read_tokens", "completion_tokens", "cache_source", "cache_verified")
    }
