"""What happens to a request that is cancelled, fails, or meets an error: others and the pages are unharmed."""

import itertools
import threading
import time

import pytest

from longlens.engine.events import FailedEvent, FinishedEvent, TokenEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import CancelFlag, Request
from longlens.errors import CancelledError, CapacityError, LonglensError

PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8)  # 19 tokens: chunks of 8, 8 and 3


def ask(token_ids=PROMPT, *, cancel=None, on_progress=None, **sampling):
    params = SamplingParams(**{"max_tokens": 6, **sampling})
    return Request(token_ids, params, (), cancel or CancelFlag(), on_progress)


def tokens_of(events):
    return [event.token_id for event in events if isinstance(event, TokenEvent)]


def answer(engine, request):
    events = list(engine.generate(request))
    return tokens_of(events), events[-1]


def run_all(engine):
    events = []
    while engine.has_work:
        events.extend(engine.step())
    return events


def test_closing_an_iterator_ends_its_request_and_frees_its_pages(make_world):
    world = make_world()
    events = world.engine.generate(ask())
    next(events)

    events.close()

    assert not world.engine.has_work
    assert world.pool.num_free_pages == world.pool.num_pages


def test_a_cancelled_request_says_so_and_frees_its_pages(make_world):
    world = make_world()
    flag = CancelFlag()
    events = world.engine.generate(ask(cancel=flag))
    got = [next(events), next(events)]
    flag.cancel()

    *rest, finished = events

    assert rest == []
    assert finished.record.finish_reason == "cancelled"
    assert finished.record.completion_tokens == len(got)
    assert world.pool.num_free_pages == world.pool.num_pages


def test_cancelling_one_request_does_not_change_the_others(make_world):
    world = make_world()
    flag = CancelFlag()
    cancelled = world.engine.add(ask((8, 8, 8), max_tokens=20, cancel=flag)).number
    other = world.engine.add(ask()).number
    layers = itertools.count()
    world.model.between_layers = lambda: flag.cancel() if next(layers) == 5 else None  # inside the third step

    events = run_all(world.engine)

    reasons = {event.sequence: event.record.finish_reason for event in events if isinstance(event, FinishedEvent)}
    assert reasons == {cancelled: "cancelled", other: "length"}
    assert tokens_of(event for event in events if event.sequence == other) == answer(make_world().engine, ask())[0]
    assert len(world.model.calls) == len(world.model.finished_calls) + 1


def test_a_waiting_request_can_be_cancelled(make_world):
    world = make_world(num_pages=16)
    world.engine.add(ask(max_tokens=None))
    flag = CancelFlag()
    waiting = world.engine.add(ask(cancel=flag)).number
    world.engine.step()
    flag.cancel()

    events = world.engine.step()

    assert [event.sequence for event in events if isinstance(event, FinishedEvent)] == [waiting]


def test_cancelling_from_another_thread_takes_effect_within_half_a_second(make_world):
    world = make_world(num_layers=200)  # 200 layers of 10 ms: a step takes two seconds
    world.model.between_layers = lambda: time.sleep(0.01)
    flag = CancelFlag()
    cancelled_at = []

    def cancel():
        cancelled_at.append(time.perf_counter())
        flag.cancel()

    timer = threading.Timer(0.3, cancel)
    timer.start()
    _, finished = answer(world.engine, ask(cancel=flag))
    latency = time.perf_counter() - cancelled_at[0]
    timer.join()

    assert finished.record.finish_reason == "cancelled"
    assert latency < 0.5
    assert world.model.finished_calls == []


def test_a_model_that_stops_unasked_is_an_error(make_world):
    world = make_world()

    def forward(chunks, *, is_cancelled, trace):
        raise CancelledError("a step was cancelled", "nobody asked")

    world.model.forward = forward

    with pytest.raises(CancelledError):
        answer(world.engine, ask())
    assert not world.engine.has_work


def test_damaged_logits_fail_their_own_request_only(make_world):
    tokens, _ = answer(make_world().engine, ask())
    world = make_world()
    world.model.nan_after = 17
    assert 17 not in (*PROMPT, *tokens[:-1])
    bad = world.engine.add(ask((1, 17))).number
    good = world.engine.add(ask()).number

    events = run_all(world.engine)

    (failed,) = [event for event in events if isinstance(event, FailedEvent)]
    assert failed.sequence == bad
    assert "hold NaN" in failed.error.fault
    assert tokens_of(event for event in events if event.sequence == good) == tokens
    with pytest.raises(LonglensError, match="hold NaN"):
        answer(world.engine, ask((1, 17)))
    assert world.pool.num_free_pages == world.pool.num_pages


def test_a_request_that_waits_for_idle_sessions_fails_with_its_mend(make_world):
    world = make_world(num_pages=16)
    session = world.engine.session()
    session.extend((1,) * 50)

    with pytest.raises(CapacityError, match="needs 6 more pages of the cache, 3 are free") as caught:
        answer(world.engine, ask())

    assert "close a session" in caught.value.mend
    session.close()
    assert len(answer(world.engine, ask())[0]) == 6


def test_a_model_error_leaves_the_engine_ready_for_the_next_request(make_world):
    world = make_world()

    def fail():
        raise ArithmeticError("a kernel failed")

    world.model.between_layers = fail
    with pytest.raises(ArithmeticError):
        answer(world.engine, ask())
    world.model.between_layers = lambda: None

    assert answer(world.engine, ask())[0] == answer(make_world().engine, ask())[0]
    assert world.pool.num_free_pages == world.pool.num_pages


def test_an_interrupt_in_the_middle_of_a_step_is_no_different(make_world):
    world = make_world()

    def interrupt():
        raise KeyboardInterrupt

    world.model.between_layers = interrupt
    with pytest.raises(KeyboardInterrupt):
        answer(world.engine, ask())
    world.model.between_layers = lambda: None

    assert answer(world.engine, ask())[0] == answer(make_world().engine, ask())[0]
    assert world.pool.num_free_pages == world.pool.num_pages
