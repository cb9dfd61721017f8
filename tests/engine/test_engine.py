import itertools

import pytest
import torch

from longlens.cache.pages import PagePool
from longlens.engine.engine import Engine
from longlens.engine.events import FinishedEvent, TokenEvent
from longlens.engine.loop import EngineLimits
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import CancelFlag, Request
from longlens.errors import CancelledError, CapacityError, ContextLengthError, UsageError
from longlens.model.state import CacheSpec

PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8)  # 19 tokens: chunks of 8, 8 and 3


def ask(token_ids=PROMPT, *, cancel=None, rules=(), on_progress=None, **sampling):
    params = SamplingParams(**{"max_tokens": 6, **sampling})
    return Request(token_ids, params, rules, cancel or CancelFlag(), on_progress)


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


def greedy_by_hand(make_world, token_ids, num_tokens):
    """Read everything anew, in one chunk, for every token."""
    token_ids = list(token_ids)
    for _ in range(num_tokens):
        logits_TV = make_world(chunk_tokens=1000).engine.logits(token_ids)
        token_ids.append(int(logits_TV[-1].argmax()))
    return token_ids[-num_tokens:]


def test_an_answer_is_what_reading_everything_anew_would_give(make_world):
    tokens, finished = answer(make_world().engine, ask())

    assert tokens == greedy_by_hand(make_world, PROMPT, 6)
    assert finished.record.finish_reason == "length"


def test_chunks_end_at_absolute_multiples(make_world):
    world = make_world()

    answer(world.engine, ask(max_tokens=3))

    assert world.model.calls == [[(0, 8)], [(8, 8)], [(16, 3)], [(19, 1)], [(20, 1)]]


@pytest.mark.parametrize("chunk_tokens", [1, 3, 7, 8, 19, 64])
def test_the_chunk_size_does_not_change_the_answer(make_world, chunk_tokens):
    tokens, _ = answer(make_world(chunk_tokens=chunk_tokens).engine, ask())

    assert tokens == answer(make_world().engine, ask())[0]


def test_batched_answers_equal_those_alone(make_world):
    requests = [
        ask(max_tokens=14),
        ask((7,), max_tokens=16, temperature=1.0, seed=5),
        ask(tuple(range(30)), temperature=0.8, top_p=0.9, seed=5, repetition_penalty=1.2),
        ask((2, 2), max_tokens=13),
    ]
    alone = [answer(make_world().engine, request)[0] for request in requests]

    world = make_world(num_pages=100)
    numbers = [world.engine.add(request).number for request in requests]
    events = run_all(world.engine)

    batched = [tokens_of(event for event in events if event.sequence == number) for number in numbers]
    assert batched == alone
    assert any(len(call) == 4 for call in world.model.calls)
    assert world.pool.num_free_pages == world.pool.num_pages


def test_requests_that_do_not_fit_together_take_turns(make_world):
    world = make_world(num_pages=16)
    numbers = [world.engine.add(ask(max_tokens=None)).number for _ in range(3)]

    events = run_all(world.engine)

    assert [event.sequence for event in events if isinstance(event, FinishedEvent)] == numbers
    assert {len(call) for call in world.model.calls} == {1}


def test_interleaved_iterators_each_get_their_own_events(make_world):
    engine = make_world().engine
    alone = [answer(make_world().engine, ask(prompt))[0] for prompt in (PROMPT, (4, 2))]

    pairs = itertools.zip_longest(engine.generate(ask()), engine.generate(ask((4, 2))))
    first, second = zip(*pairs, strict=True)

    assert [tokens_of(first), tokens_of(second)] == alone
    assert engine.step() == []


def test_events_of_added_requests_wait_for_step_while_an_iterator_drives(make_world):
    engine = make_world().engine
    number = engine.add(ask((4, 2))).number

    answer(engine, ask())

    events = engine.step()
    assert {event.sequence for event in events} == {number}
    assert tokens_of(events) == answer(make_world().engine, ask((4, 2)))[0]


def test_logits_are_the_ones_that_generation_samples_from(make_world):
    world = make_world()

    logits_TV = world.engine.logits(PROMPT)

    assert logits_TV.shape == (19, 31)
    assert logits_TV.dtype == torch.float32
    assert world.model.calls == [[(0, 8)], [(8, 8)], [(16, 3)]]
    assert torch.equal(logits_TV, make_world(chunk_tokens=1000).engine.logits(PROMPT))
    assert int(logits_TV[-1].argmax()) == answer(world.engine, ask())[0][0]
    assert world.pool.num_free_pages == world.pool.num_pages


def test_logits_can_be_cancelled_and_tell_progress(make_world):
    world = make_world()
    told = []
    flag = CancelFlag()
    world.engine.logits(PROMPT, on_progress=lambda done, total: told.append((done, total)))
    flag.cancel()

    with pytest.raises(CancelledError):
        world.engine.logits(PROMPT, cancel=flag)

    assert told == [(8, 19), (16, 19), (19, 19)]
    assert world.pool.num_free_pages == world.pool.num_pages


def test_logits_do_not_take_pages_that_a_running_request_needs(make_world):
    world = make_world(num_pages=16)
    world.engine.add(ask((1,), max_tokens=40))
    world.engine.step()

    with pytest.raises(CapacityError, match="needs 7 more pages of the cache, 6 are free"):
        world.engine.logits(tuple(range(28)))

    assert len(tokens_of(run_all(world.engine))) == 39


def test_any_of_the_models_stop_ids_ends_an_answer_without_being_part_of_it(make_world):
    tokens, _ = answer(make_world().engine, ask())
    unused = next(token_id for token_id in range(31) if token_id not in tokens)
    for stop_id in set(tokens):
        expected = tokens[: tokens.index(stop_id)]

        got, finished = answer(make_world(stop_ids=(unused, stop_id)).engine, ask())

        assert got == expected
        assert finished.record.finish_reason == "stop"
        assert finished.record.completion_tokens == len(expected)
        assert finished.stop_token_id == stop_id


def test_a_request_may_bring_stop_ids_and_ignore_the_models(make_world):
    tokens, _ = answer(make_world().engine, ask())

    got, _ = answer(make_world(stop_ids=(tokens[0],)).engine, ask(ignore_eos=True))
    assert got == tokens
    got, _ = answer(make_world(stop_ids=(tokens[0],)).engine, ask(ignore_eos=True, stop_ids={tokens[1]}))
    assert got == tokens[: tokens.index(tokens[1])]


def test_an_answer_without_a_limit_ends_with_the_context(make_world):
    world = make_world(max_context=24)

    tokens, finished = answer(world.engine, ask(max_tokens=None))

    assert len(tokens) == 24 - 19
    assert finished.record.finish_reason == "length"
    assert world.model.calls[-1] == [(22, 1)]


def test_max_tokens_zero_only_reads(make_world):
    world = make_world()

    tokens, finished = answer(world.engine, ask(max_tokens=0))

    assert tokens == []
    assert finished.record.finish_reason == "length"
    assert finished.record.ttft_s is None
    assert world.model.calls == [[(0, 8)], [(8, 8)], [(16, 3)]]


@pytest.mark.parametrize(
    ("request_", "error", "fault"),
    [
        (ask(()), UsageError, "the prompt is empty"),
        (ask((31,)), UsageError, "token id 31 is not in the vocabulary of 31"),
        (ask(max_tokens=46), ContextLengthError, "19 tokens of prompt and 46 of answer do not fit a context of 64"),
        (ask((0,) * 64, max_tokens=None), ContextLengthError, "64 tokens of prompt and 1 of answer"),
        (ask(logit_bias={31: 1.0}), UsageError, "a token id in logit_bias is 31"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(make_world, request_, error, fault):
    world = make_world()

    with pytest.raises(error, match=fault):
        world.engine.add(request_)
    with pytest.raises(error, match=fault):
        list(world.engine.generate(request_))

    assert not world.engine.has_work
    assert world.model.calls == []


def test_generate_refuses_at_once_and_starts_when_asked(make_world):
    world = make_world()
    with pytest.raises(ContextLengthError):
        world.engine.generate(ask(max_tokens=100))

    events = world.engine.generate(ask())

    assert not world.engine.has_work
    next(events)
    assert world.engine.has_work


@pytest.mark.parametrize("call", [lambda engine: engine.logits(()), lambda engine: engine.logits((0,) * 65)])
def test_logits_of_too_few_or_too_many_tokens_are_refused(make_world, call):
    world = make_world()

    with pytest.raises((UsageError, ContextLengthError)):
        call(world.engine)

    assert world.model.calls == []


@pytest.mark.cuda
def test_answers_on_a_device_equal_those_on_the_cpu(make_world):
    requests = [
        ask(logit_bias={3: 1.0}, repetition_penalty=1.3),
        ask((4, 2), max_tokens=20, temperature=1.0, top_k=20, top_p=0.9, min_p=0.01, seed=5),
    ]
    expected = [answer(make_world().engine, request)[0] for request in requests]

    world = make_world(device="cuda")
    numbers = [world.engine.add(request).number for request in requests]
    events = run_all(world.engine)

    assert [tokens_of(event for event in events if event.sequence == number) for number in numbers] == expected
    assert world.engine.logits(PROMPT).is_cuda


def test_rules_steer_the_answer_and_see_its_tokens_only(make_world):
    seen = []

    class EvenTokens:
        needs_host = False

        def apply(self, output_ids, logits_V):
            seen.append(list(output_ids))
            logits_V[1::2] = -torch.inf
            return logits_V

    tokens, _ = answer(make_world().engine, ask(rules=(EvenTokens(),)))

    assert all(token_id % 2 == 0 for token_id in tokens)
    assert seen == [tokens[:count] for count in range(6)]


def test_a_pool_for_another_model_is_refused(make_world):
    world = make_world()
    other = PagePool(CacheSpec(world.model.cache_spec.tensors[:1], 4), 16, "cpu")

    with pytest.raises(UsageError, match="laid out for another model"):
        Engine(world.model, other, world.limits)


def test_a_pool_smaller_than_the_context_is_refused_with_what_fits(make_world):
    with pytest.raises(CapacityError, match="the cache holds 40 tokens, the context has 64") as caught:
        make_world(num_pages=10)

    assert caught.value.mend == "--context 40 fits"


@pytest.mark.parametrize(("chunk_tokens", "max_context"), [(0, 64), (8, 0)])
def test_limits_that_cannot_work_are_refused(make_world, chunk_tokens, max_context):
    world = make_world()

    with pytest.raises(UsageError, match="cannot work"):
        Engine(world.model, world.pool, EngineLimits(chunk_tokens, max_context))
