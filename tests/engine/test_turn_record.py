from longlens.engine.turn_record import TurnMeter


def test_a_record_carries_what_was_metered():
    meter = TurnMeter(cached_tokens=5)
    meter.read_tokens += 3
    meter.prefill_s += 0.5
    meter.decode_s += 0.25
    meter.ttft_s = 0.625

    record = meter.record(prompt_tokens=8, completion_tokens=2, finish_reason="length")

    assert (record.prompt_tokens, record.cached_tokens, record.read_tokens, record.completion_tokens) == (8, 5, 3, 2)
    assert (record.prefill_s, record.decode_s, record.ttft_s) == (0.5, 0.25, 0.625)
    assert record.finish_reason == "length"
