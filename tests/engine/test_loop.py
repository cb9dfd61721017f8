import pytest

from longlens.engine.loop import StepLoop
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import CancelFlag, Request
from longlens.engine.token_context import TokenContext
from longlens.errors import UsageError


def make_loop(world):
    return StepLoop(world.model, world.pool, world.limits, clock=lambda: 0.0)


def test_a_context_that_does_not_outlive_its_request_is_closed_with_it(make_world):
    loop = make_loop(make_world())
    passing, kept = TokenContext.empty(loop.pool), TokenContext.empty(loop.pool)
    request = Request((1, 2), SamplingParams(max_tokens=1))
    loop.submit(request, passing, keeps_context=False)
    loop.submit(request, kept, keeps_context=True)

    while loop.has_work:
        loop.advance()

    assert passing.cache.is_closed
    assert not kept.cache.is_closed
    assert not kept.is_busy


def test_events_are_taken_once(make_world):
    loop = make_loop(make_world())
    loop.submit(Request((1, 2), SamplingParams(max_tokens=1)), TokenContext.empty(loop.pool), keeps_context=False)
    while loop.has_work:
        loop.advance()

    assert len(loop.take_events()) == 2
    assert loop.take_events() == []


def test_a_step_without_work_does_nothing(make_world):
    world = make_world()
    loop = make_loop(world)

    loop.advance()

    assert world.model.calls == []
    assert loop.take_events() == []


def test_one_context_serves_one_request_at_a_time(make_world):
    loop = make_loop(make_world())
    context = TokenContext.empty(loop.pool)
    loop.submit(Request((1,)), context, keeps_context=True)

    with pytest.raises(UsageError, match="in the middle of an answer"):
        loop.submit(Request((2,)), context, keeps_context=True)

    assert context.token_ids == [1]


def test_a_progress_callback_that_fails_loses_no_row(make_world):
    world = make_world()
    loop = make_loop(world)
    context = TokenContext.empty(loop.pool)

    def fail(done, total):
        raise RuntimeError("the terminal is gone")

    events = loop.stream(
        Request((1, 2, 3), SamplingParams(max_tokens=2), (), CancelFlag(), fail), context, keeps_context=True
    )
    with pytest.raises(RuntimeError, match="the terminal is gone"):
        next(events)

    assert not context.is_busy
    assert context.cache.length == 3
    assert len(list(loop.stream(Request((), SamplingParams(max_tokens=2)), context, keeps_context=True))) == 3
    assert world.model.calls == [[(0, 3)], [(3, 1)]]
