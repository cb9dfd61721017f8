"""A session that is cancelled, busy, closed, empty or without room: nothing is lost and nothing is half done."""

import itertools

import pytest
import torch

from longlens.engine.events import FinishedEvent, TokenEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import CancelFlag
from longlens.errors import CancelledError, CapacityError, ContextLengthError, UsageError

PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8)
GREEDY = SamplingParams(max_tokens=4)


def answer(session, params=GREEDY, **wishes):
    events = list(session.generate(params, **wishes))
    return [event.token_id for event in events if isinstance(event, TokenEvent)], events[-1].record


def logits_anew(make_world, token_ids):
    return make_world(chunk_tokens=1000).engine.logits(token_ids)[-1]


def cancel_in_layer(world, number):
    """A flag that is raised inside the given layer, counted over all steps."""
    flag = CancelFlag()
    layers = itertools.count()
    world.model.between_layers = lambda: flag.cancel() if next(layers) == number else None
    return flag


@pytest.mark.parametrize("layer", range(8))
def test_cancelled_then_resumed_is_bit_identical_on_the_same_grid(make_world, layer):
    world = make_world(num_layers=2)
    session = world.engine.session()
    flag = cancel_in_layer(world, layer)

    if layer < 6:
        with pytest.raises(CancelledError, match=f"reading stopped with {19 - 8 * (layer // 2)} tokens unread"):
            session.extend(PROMPT, cancel=flag)
        assert session.tokens == PROMPT
        assert session.cached_tokens == 8 * (layer // 2)
        session.extend(())
    else:
        session.extend(PROMPT, cancel=flag)

    assert world.model.finished_calls == [[(0, 8)], [(8, 8)], [(16, 3)]]
    assert torch.equal(session.logits(), logits_anew(make_world, PROMPT))
    undisturbed = make_world().engine.session()
    undisturbed.extend(PROMPT)
    assert answer(session)[0] == answer(undisturbed)[0]


def test_generating_reads_what_a_cancelled_extend_left(make_world):
    world = make_world()
    session = world.engine.session()
    with pytest.raises(CancelledError):
        session.extend(PROMPT, cancel=cancel_in_layer(world, 3))

    tokens, record = answer(session)

    undisturbed = make_world().engine.session()
    undisturbed.extend(PROMPT)
    assert tokens == answer(undisturbed)[0]
    assert (record.cached_tokens, record.read_tokens) == (0, 19)


def test_an_answer_cut_short_stays_and_goes_on(make_world):
    whole = make_world().engine.session()
    whole.extend(PROMPT)
    tokens, _ = answer(whole)
    session = make_world().engine.session()
    session.extend(PROMPT)
    flag = CancelFlag()

    events = session.generate(GREEDY, cancel=flag)
    next(events)
    next(events)
    flag.cancel()
    (finished,) = events

    assert isinstance(finished, FinishedEvent)
    assert finished.record.finish_reason == "cancelled"
    assert session.tokens == (*PROMPT, *tokens[:2])
    assert answer(session)[0] == tokens[2:] + answer_after(make_world, (*PROMPT, *tokens), 2)


def answer_after(make_world, token_ids, num_tokens):
    session = make_world().engine.session()
    session.extend(token_ids)
    return answer(session, SamplingParams(max_tokens=num_tokens))[0]


def test_a_closed_iterator_frees_the_session_for_other_work(make_world):
    session = make_world().engine.session()
    session.extend(PROMPT)
    events = session.generate(GREEDY)
    first = next(events)

    events.close()
    session.extend((5,))

    assert session.tokens == (*PROMPT, first.token_id, 5)
    assert torch.equal(session.logits(), logits_anew(make_world, session.tokens))


@pytest.mark.parametrize("action", ["extend", "logits", "rewind", "fork", "close", "generate"])
def test_a_session_in_the_middle_of_an_answer_refuses_other_work(make_world, action):
    session = make_world().engine.session()
    session.extend(PROMPT)
    events = session.generate(GREEDY)
    next(events)
    calls = {
        "extend": lambda: session.extend((1,)),
        "logits": session.logits,
        "rewind": lambda: session.rewind(0),
        "fork": session.fork,
        "close": session.close,
        "generate": lambda: session.generate(GREEDY),
    }

    with pytest.raises(UsageError, match="in the middle of an answer"):
        calls[action]()
    assert len(list(events)) == 4


@pytest.mark.parametrize("action", ["extend", "logits", "rewind", "fork", "generate"])
def test_a_closed_session_refuses_work(make_world, action):
    world = make_world()
    with world.engine.session() as session:
        session.extend(PROMPT)
    calls = {
        "extend": lambda: session.extend((1,)),
        "logits": session.logits,
        "rewind": lambda: session.rewind(0),
        "fork": session.fork,
        "generate": lambda: session.generate(GREEDY),
    }

    with pytest.raises(UsageError, match="the session is closed"):
        calls[action]()
    session.close()
    assert world.pool.num_free_pages == world.pool.num_pages


@pytest.mark.parametrize("action", ["logits", "generate"])
def test_an_empty_session_has_nothing_to_say(make_world, action):
    session = make_world().engine.session()
    session.extend(())

    with pytest.raises(UsageError, match="the prompt is empty"):
        session.logits() if action == "logits" else session.generate(GREEDY)


def test_too_many_tokens_are_refused_before_any_is_appended(make_world):
    world = make_world(max_context=20)
    session = world.engine.session()
    session.extend(PROMPT)

    with pytest.raises(ContextLengthError):
        session.extend((1, 2))
    with pytest.raises(ContextLengthError):
        session.generate(SamplingParams(max_tokens=2))

    assert session.tokens == PROMPT
    assert len(answer(session, SamplingParams(max_tokens=1))[0]) == 1


def test_a_session_without_pages_is_left_as_it_was(make_world):
    world = make_world(num_pages=16)
    with world.engine.session() as other:
        other.extend((1,) * 50)
        session = world.engine.session()
        session.extend((7, 7))
        with pytest.raises(CapacityError, match="close a session"):
            session.extend((8,) * 20)
        assert session.tokens == (7, 7)

    session.extend((8,) * 20)
    assert torch.equal(session.logits(), logits_anew(make_world, session.tokens))
