import itertools

import torch

from longlens.engine.events import TokenEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import Request

PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8)
GREEDY = SamplingParams(max_tokens=4)


def answer(session, params=GREEDY, **wishes):
    events = list(session.generate(params, **wishes))
    return [event.token_id for event in events if isinstance(event, TokenEvent)], events[-1].record


def logits_anew(make_world, token_ids):
    return make_world(chunk_tokens=1000).engine.logits(token_ids)[-1]


def answer_after(make_world, token_ids, num_tokens, **sampling):
    session = make_world().engine.session()
    session.extend(token_ids)
    return answer(session, SamplingParams(max_tokens=num_tokens, **sampling))[0]


def rows_read(world):
    return sum(num_tokens for call in world.model.finished_calls for _, num_tokens in call)


def test_extending_reads_at_once_and_generating_does_not_read_again(make_world):
    world = make_world()
    session = world.engine.session()

    session.extend(PROMPT)
    assert world.model.calls == [[(0, 8)], [(8, 8)], [(16, 3)]]
    answer(session)

    assert world.model.calls[3:] == [[(19, 1)], [(20, 1)], [(21, 1)]]


def test_logits_are_those_after_the_last_token(make_world):
    world = make_world()
    session = world.engine.session()
    session.extend(PROMPT[:11])
    session.extend(PROMPT[11:])

    assert torch.equal(session.logits(), logits_anew(make_world, PROMPT))
    assert rows_read(world) == len(PROMPT)


def test_logits_handed_out_are_the_callers_own(make_world):
    session = make_world().engine.session()
    session.extend(PROMPT)

    session.logits().fill_(0)

    assert torch.equal(session.logits(), logits_anew(make_world, PROMPT))


def test_the_last_answered_token_is_read_with_what_follows(make_world):
    world = make_world()
    session = world.engine.session()
    session.extend(PROMPT)
    tokens, _ = answer(session)
    assert session.tokens == (*PROMPT, *tokens)
    assert (session.cached_tokens, session.unread_tokens) == (22, 1)

    session.extend((6, 6))

    assert world.model.calls[-2:] == [[(22, 2)], [(24, 1)]]
    assert rows_read(world) == len(session.tokens)
    assert torch.equal(session.logits(), logits_anew(make_world, session.tokens))


def test_no_token_is_read_twice_over_a_whole_conversation(make_world):
    world = make_world(max_context=200, num_pages=60)
    session = world.engine.session()
    for turn in range(5):
        session.extend(tuple(range(turn, turn + 9)))
        answer(session)

    assert rows_read(world) == session.cached_tokens == len(session.tokens) - 1
    session.logits()
    assert rows_read(world) == len(session.tokens)


def test_chunks_meet_the_absolute_grid_after_an_answer(make_world):
    world = make_world()
    session = world.engine.session()
    session.extend(PROMPT)
    answer(session)
    del world.model.calls[:]

    session.extend(tuple(range(20)))

    assert world.model.calls == [[(22, 2)], [(24, 8)], [(32, 8)], [(40, 3)]]


def test_a_stop_id_is_not_part_of_the_session(make_world):
    session = make_world().engine.session()
    session.extend(PROMPT)
    tokens, _ = answer(session)

    world = make_world(stop_ids=(tokens[2],))
    session = world.engine.session()
    session.extend(PROMPT)
    got, record = answer(session)

    assert got == tokens[: tokens.index(tokens[2])]
    assert record.finish_reason == "stop"
    assert session.tokens == (*PROMPT, *got)
    before = rows_read(world)
    assert torch.equal(session.logits(), logits_anew(make_world, session.tokens))
    assert rows_read(world) == before


def test_an_answer_to_be_continued_is_the_same_as_an_answer_in_one(make_world):
    session = make_world().engine.session()
    session.extend(PROMPT)
    whole, _ = answer(session, SamplingParams(max_tokens=9))

    session = make_world().engine.session()
    session.extend(PROMPT)
    pieces = [answer(session, SamplingParams(max_tokens=3))[0] for _ in range(3)]

    assert list(itertools.chain(*pieces)) == whole


def test_the_same_seed_gives_the_same_tokens_in_a_session_and_alone(make_world):
    params = SamplingParams(max_tokens=8, temperature=1.0, seed=77)
    session = make_world().engine.session()
    session.extend(PROMPT)
    fork = session.fork()

    first, _ = answer(session, params)

    assert answer(fork, params)[0] == first
    assert len(set(first)) > 1


def test_penalties_see_the_tokens_of_the_whole_session(make_world):
    params = SamplingParams(max_tokens=12, repetition_penalty=1.7)
    session = make_world().engine.session()
    session.extend(PROMPT)
    assert answer(session, params)[0] != answer_after(make_world, PROMPT, 12)
    session.rewind(len(PROMPT))

    world = make_world()
    events = list(world.engine.generate(Request(PROMPT, params)))

    assert answer(session, params)[0] == [event.token_id for event in events[:-1]]


def test_forks_go_their_own_ways_without_disturbing_each_other(make_world):
    world = make_world(num_pages=60)
    parent = world.engine.session()
    parent.extend(PROMPT)
    before = rows_read(world)
    children = [parent.fork() for _ in range(3)]
    assert rows_read(world) == before

    for number, child in enumerate(children):
        child.extend((number, 7))
    parent.extend((30,))

    for session in (parent, *children):
        assert torch.equal(session.logits(), logits_anew(make_world, session.tokens))
    assert rows_read(world) == before + 3 * 2 + 1


def test_a_fork_knows_the_logits_without_reading(make_world):
    world = make_world()
    parent = world.engine.session()
    parent.extend(PROMPT)
    before = rows_read(world)

    child = parent.fork()

    assert torch.equal(child.logits(), parent.logits())
    assert answer(child)[0] == answer(parent)[0]
    assert rows_read(world) == before + 2 * 3


def test_forks_answer_together_in_one_batch(make_world):
    world = make_world(num_pages=60)
    parent = world.engine.session()
    parent.extend(PROMPT)
    left, right = parent.fork(), parent.fork()
    left.extend((1,))
    right.extend((2,))
    del world.model.calls[:]

    pairs = list(itertools.zip_longest(left.generate(GREEDY), right.generate(GREEDY)))

    assert any(len(call) == 2 for call in world.model.calls)
    for number in range(2):
        alone = make_world().engine.session()
        alone.extend((*PROMPT, number + 1))
        tokens, _ = answer(alone)
        assert [pair[number].token_id for pair in pairs if isinstance(pair[number], TokenEvent)] == tokens


def test_a_rewound_session_answers_as_if_it_had_never_gone_on(make_world):
    world = make_world()
    session = world.engine.session()
    session.extend(PROMPT)
    answer(session)
    session.rewind(13)
    before = rows_read(world)

    session.extend((29, 28))

    assert session.tokens == (*PROMPT[:13], 29, 28)
    assert rows_read(world) == before + 2
    assert torch.equal(session.logits(), logits_anew(make_world, session.tokens))


def test_logits_after_a_rewind_cost_one_row(make_world):
    world = make_world()
    session = world.engine.session()
    session.extend(PROMPT)
    session.rewind(13)
    before = rows_read(world)

    assert torch.equal(session.logits(), logits_anew(make_world, PROMPT[:13]))
    assert rows_read(world) == before + 1
    assert world.model.calls[-1] == [(12, 1)]


def test_logits_after_rewinding_a_fork_leave_its_parent_alone(make_world):
    parent = make_world().engine.session()
    parent.extend(PROMPT[:16])
    child = parent.fork()
    child.rewind(13)

    assert torch.equal(child.logits(), logits_anew(make_world, PROMPT[:13]))
    child.extend((0, 0, 0))
    assert torch.equal(child.logits(), logits_anew(make_world, (*PROMPT[:13], 0, 0, 0)))
    parent.extend((5,))
    assert torch.equal(parent.logits(), logits_anew(make_world, (*PROMPT[:16], 5)))


def test_rewinding_gives_pages_back(make_world):
    world = make_world()
    session = world.engine.session()
    session.extend(PROMPT)

    session.rewind(4)

    assert world.pool.num_used_pages == 1


def test_records_count_cached_and_read_tokens_turn_by_turn(make_world):
    session = make_world().engine.session()
    session.extend(PROMPT[:10])
    session.extend(PROMPT[10:])
    _, first = answer(session)
    session.extend((1, 2, 3))
    _, second = answer(session)
    session.rewind(15)
    session.extend((9, 9))
    _, third = answer(session)

    counts = [(turn.prompt_tokens, turn.cached_tokens, turn.read_tokens) for turn in (first, second, third)]
    assert counts == [(19, 0, 19), (26, 22, 4), (17, 15, 2)]
    assert all(turn.completion_tokens == 4 for turn in (first, second, third))


def test_a_forks_first_turn_counts_the_shared_rows_as_cached(make_world):
    parent = make_world().engine.session()
    parent.extend(PROMPT)
    child = parent.fork()
    child.extend((1, 2))

    _, record = answer(child)

    assert (record.prompt_tokens, record.cached_tokens, record.read_tokens) == (21, 19, 2)


def test_reading_ahead_counts_towards_the_first_token(make_world):
    seconds = iter(range(10_000))
    session = make_world(clock=lambda: float(next(seconds))).engine.session()

    session.extend(PROMPT)  # three steps, each a second by this clock
    _, record = answer(session)

    assert record.prefill_s == 3.0
    assert record.ttft_s > 3.0


def test_progress_counts_what_this_call_reads(make_world):
    session = make_world().engine.session()
    session.extend(PROMPT[:5])
    told = []

    session.extend(PROMPT[5:], on_progress=lambda done, total: told.append((done, total)))

    assert told == [(3, 14), (11, 14), (14, 14)]
