import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.cache.pages import PagePool
from longlens.engine.sampling import Sampler, SamplingParams
from longlens.engine.scheduler import Scheduler, chunk_end
from longlens.engine.sequence import Request, TokenSequence
from longlens.engine.token_context import TokenContext
from longlens.model.state import CacheSpec, CacheTensor

SPEC = CacheSpec((CacheTensor("latent", 0, 1, "f32", 0),), page_tokens=4)


class World:
    """A scheduler over a pool, and a step that computes nothing."""

    def __init__(self, *, num_pages=64, chunk_tokens=8, max_context=64):
        self.pool = PagePool(SPEC, num_pages, "cpu")
        self.scheduler = Scheduler(self.pool, chunk_tokens=chunk_tokens, max_context=max_context)
        self.num_added = 0

    def add(self, num_tokens, max_tokens=1):
        context = TokenContext.empty(self.pool)
        context.extend([0] * num_tokens)
        params = SamplingParams(max_tokens=max_tokens)
        sampler = Sampler(params, (), (), 10)
        self.num_added += 1
        sequence = TokenSequence(
            self.num_added, context, Request((0,) * num_tokens, params), sampler, submitted_at=0.0, keeps_context=False
        )
        self.scheduler.add(sequence)
        return sequence

    def step(self):
        """Run a step; sequences that decode take one token each. Returns {number: (first position, tokens)}."""
        self.scheduler.admit()
        work = self.scheduler.plan_step()
        done = {}
        for sequence, num_tokens in work:
            cache = sequence.context.cache
            done[sequence.number] = (cache.length, num_tokens)
            cache.reserve(num_tokens)
            cache.commit(num_tokens)
            sequence.note_step(num_tokens, 0.0)
        for sequence in self.scheduler.running:
            if sequence.phase == "decode" and not sequence.context.num_unread:
                sequence.accept(1)
        return done


@pytest.mark.parametrize(
    ("first", "end", "expected"), [(0, 100, 8), (7, 100, 8), (8, 100, 16), (3, 5, 5), (8, 9, 9), (15, 16, 16)]
)
def test_a_chunk_ends_at_a_multiple_or_with_the_prompt(first, end, expected):
    assert chunk_end(first, end, 8) == expected


@given(start=st.integers(0, 200), end=st.integers(1, 200), chunk_tokens=st.integers(1, 50))
def test_chunks_from_anywhere_meet_the_same_grid(start, end, chunk_tokens):
    position, ends = start, []
    while position < end:
        position = chunk_end(position, end, chunk_tokens)
        ends.append(position)

    assert ends == [edge for edge in range(start + 1, end + 1) if edge % chunk_tokens == 0 or edge == end]


def test_a_prompt_is_read_chunk_by_chunk():
    world = World()
    world.add(19)

    assert [world.step()[1] for _ in range(3)] == [(0, 8), (8, 8), (16, 3)]


def test_several_short_prompts_share_a_step():
    world = World()
    for num_tokens in (3, 3, 2, 4):
        world.add(num_tokens)

    assert world.step() == {1: (0, 3), 2: (0, 3), 3: (0, 2)}
    assert world.step()[4] == (0, 4)


def test_prefill_never_stops_decoding():
    world = World()
    world.add(2, max_tokens=20)
    world.step()
    world.add(24)

    for first in (0, 8, 16):
        assert world.step() == {1: (2 + first // 8, 1), 2: (first, 8)}


def test_long_prompts_take_turns():
    world = World()
    world.add(24)
    world.add(24)

    order = []
    for _ in range(6):
        order.extend(number for number, (_, num_tokens) in world.step().items() if num_tokens == 8)
    assert order == [1, 2, 1, 2, 1, 2]


def test_a_short_prompt_waits_for_one_chunk_of_a_long_one():
    world = World()
    world.add(64, max_tokens=0)
    world.step()
    short = world.add(6)

    world.step()
    world.step()

    assert short.phase == "decode"


def test_whoever_did_not_fit_goes_first_in_the_next_step():
    world = World()
    world.add(5)
    world.add(6)
    world.add(3)

    assert list(world.step()) == [1, 3]
    assert world.step()[2] == (0, 6)


def test_a_sequence_is_admitted_only_when_it_can_end():
    world = World(num_pages=4)
    first = world.add(5, max_tokens=4)  # 8 rows: two pages
    second = world.add(8, max_tokens=2)  # 9 rows: three pages
    world.step()

    assert (first.phase, second.phase) == ("decode", "waiting")
    world.scheduler.remove(first)
    first.context.close()
    world.step()
    assert second.phase != "waiting"


def test_pages_still_to_come_are_not_given_to_others():
    world = World(num_pages=4)
    world.add(1, max_tokens=12)  # one page now, three at the end
    world.step()

    assert world.pool.num_free_pages == 3
    assert world.scheduler.num_spare_pages == 1


def test_nobody_overtakes_in_the_queue():
    world = World(num_pages=4)
    world.add(5, max_tokens=4)
    large = world.add(16, max_tokens=0)
    small = world.add(1)
    world.step()

    assert (large.phase, small.phase) == ("waiting", "waiting")


def test_a_request_without_a_limit_claims_the_rest_of_the_context():
    world = World(num_pages=16, max_context=64)
    world.add(3, max_tokens=None)
    other = world.add(1)
    world.step()

    assert other.phase == "waiting"


def test_the_copy_of_a_shared_page_is_counted():
    world = World(num_pages=3)
    parent = world.add(6)
    world.step()
    assert world.scheduler.pages_to_come(parent) == 0

    parent.context.fork()
    parent.request = Request((), SamplingParams(max_tokens=2))

    assert world.scheduler.pages_to_come(parent) == 1


def test_stuck_names_the_first_that_waits_for_pages_nobody_will_free():
    world = World(num_pages=2)
    holder = TokenContext.empty(world.pool)
    holder.cache.reserve(5)
    sequence = world.add(3)
    world.step()

    assert world.scheduler.stuck() is sequence
    holder.cache.drop_uncommitted()
    world.step()
    assert world.scheduler.stuck() is None


def test_a_removed_sequence_is_forgotten_running_or_waiting():
    world = World(num_pages=1)
    running, waiting = world.add(4), world.add(4)
    world.step()

    world.scheduler.remove(running)
    world.scheduler.remove(waiting)

    assert list(world.scheduler.sequences) == []
