"""Whatever comes together, and whatever is cancelled: every answer is what it would be alone."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longlens.engine.events import FinishedEvent, TokenEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import CancelFlag, Request

requests = st.fixed_dictionaries(
    {
        "token_ids": st.lists(st.integers(0, 30), min_size=1, max_size=30).map(tuple),
        "max_tokens": st.integers(0, 12),
        "seed": st.integers(0, 3),
        "temperature": st.sampled_from([0.0, 1.0]),
        "arrives_in": st.integers(0, 12),
        "is_cancelled_in": st.one_of(st.none(), st.integers(0, 40)),
    }
)


def make_request(wish, flag):
    params = SamplingParams(max_tokens=wish["max_tokens"], seed=wish["seed"], temperature=wish["temperature"])
    return Request(wish["token_ids"], params, (), flag)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wishes=st.lists(requests, min_size=1, max_size=6), chunk_tokens=st.integers(1, 12), num_pages=st.integers(12, 40)
)
def test_answers_do_not_depend_on_company(make_world, wishes, chunk_tokens, num_pages):
    world = make_world(chunk_tokens=chunk_tokens, num_pages=num_pages, max_context=48)
    flags = [CancelFlag() for _ in wishes]
    layers = [0]

    def cancel_in_time():
        for wish, flag in zip(wishes, flags, strict=True):
            if wish["is_cancelled_in"] == layers[0]:
                flag.cancel()
        layers[0] += 1

    world.model.between_layers = cancel_in_time
    numbers, events, step = {}, [], 0
    while len(numbers) < len(wishes) or world.engine.has_work:
        for place, wish in enumerate(wishes):
            if wish["arrives_in"] == step:
                numbers[place] = world.engine.add(make_request(wish, flags[place])).number
        events.extend(world.engine.step())
        step += 1

    for place, wish in enumerate(wishes):
        own = [event for event in events if event.sequence == numbers[place]]
        tokens = [event.token_id for event in own if isinstance(event, TokenEvent)]
        alone = make_world(max_context=48)
        expected = list(alone.engine.generate(make_request(wish, CancelFlag())))
        assert isinstance(own[-1], FinishedEvent)
        expected_tokens = [event.token_id for event in expected[:-1]]
        if own[-1].record.finish_reason == "cancelled":
            assert flags[place].is_cancelled
            assert tokens == expected_tokens[: len(tokens)]
        else:
            assert tokens == expected_tokens
    for first, num_tokens in (chunk for call in world.model.calls for chunk in call):
        assert num_tokens == 1 or first // chunk_tokens == (first + num_tokens - 1) // chunk_tokens
    assert world.pool.num_free_pages == num_pages
