from collections import Counter

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from longlens.cache.pages import PagePool
from longlens.cache.sequence_cache import SequenceCache
from longlens.errors import CapacityError, ShapeError, UsageError
from longlens.model.state import CacheSpec, CacheTensor

SPEC = CacheSpec(
    (
        CacheTensor("latent", 0, 2, "f32", 0),
        CacheTensor("latent", 1, 2, "f32", 0),
        CacheTensor("index_key", 0, 1, "f32", 0),
    ),
    page_tokens=4,
)


def make_pool(num_pages=8):
    pool = PagePool(SPEC, num_pages, "cpu")
    for tensor in SPEC.tensors:
        pool.layer_state(tensor.kind, tensor.layer).pool_PX.fill_(float("nan"))
    return pool


def put(cache, values, *, commit=True):
    """Run one step that stores a value a token, told apart by tensor."""
    cache.reserve(len(values))
    for number, tensor in enumerate(SPEC.tensors):
        rows_TX = torch.tensor([float(value + 1000 * number) for value in values])[:, None].expand(-1, tensor.width)
        cache.write(tensor.kind, tensor.layer, rows_TX, cache.length)
    if commit:
        cache.commit(len(values))
    else:
        cache.drop_uncommitted()


def contents(cache):
    """The values of a sequence, which all its tensors must agree on."""
    seen = set()
    for number, tensor in enumerate(SPEC.tensors):
        rows = cache.rows(tensor.kind, tensor.layer, cache.length)
        values_SX = rows.pool_PX[rows.slots_S] - 1000 * number
        seen.add(tuple(values_SX[:, 0].tolist()))
        assert torch.equal(values_SX, values_SX[:, :1].expand(-1, tensor.width))
    (values,) = seen
    return list(values)


def test_rows_come_back_in_order_across_pages():
    cache = SequenceCache(make_pool())

    put(cache, range(6))
    put(cache, range(6, 11))

    assert contents(cache) == list(range(11))
    assert len(cache.pages) == 3


def test_a_step_reads_its_own_rows_before_they_are_committed():
    cache = SequenceCache(make_pool())
    put(cache, [1, 2])
    cache.reserve(2)

    cache.write("index_key", 0, torch.tensor([[7.0], [8.0]]), 2)
    rows = cache.rows("index_key", 0, 4)

    assert rows.pool_PX[rows.slots_S][2:, 0].tolist() == [7, 8]
    assert cache.length == 2


def test_a_cancelled_step_leaves_neither_rows_nor_pages():
    pool = make_pool()
    cache = SequenceCache(pool)
    put(cache, range(3))

    put(cache, [90] * 10, commit=False)

    assert cache.length == 3
    assert pool.num_used_pages == 1
    with pytest.raises(ShapeError):
        cache.rows("latent", 0, 4)
    put(cache, [3, 4])
    assert contents(cache) == [0, 1, 2, 3, 4]


def test_committing_a_part_of_a_step_gives_the_rest_back():
    pool = make_pool()
    cache = SequenceCache(pool)
    cache.reserve(12)
    for tensor in SPEC.tensors:
        cache.write(tensor.kind, tensor.layer, torch.zeros(12, tensor.width), 0)

    cache.commit(5)

    assert cache.length == 5
    assert pool.num_used_pages == 2


@pytest.mark.parametrize(("first", "count"), [(1, 1), (2, 3), (4, 1)], ids=["committed", "too long", "behind"])
def test_a_step_writes_its_own_positions_only(first, count):
    cache = SequenceCache(make_pool())
    put(cache, [0, 1])
    cache.reserve(2)

    with pytest.raises(ShapeError, match=r"room is for 2\.\.3"):
        cache.write("latent", 0, torch.zeros(count, 2), first)


def test_a_fork_shares_pages_until_one_of_the_two_writes():
    pool = make_pool()
    parent = SequenceCache(pool)
    put(parent, range(6))

    child = parent.fork()
    assert pool.num_used_pages == 2
    assert child.pages == parent.pages

    put(child, [60])
    assert pool.num_used_pages == 3
    assert child.pages[0] == parent.pages[0]
    assert child.pages[1] != parent.pages[1]
    put(parent, [70, 71])
    assert pool.num_used_pages == 3
    assert contents(child) == [0, 1, 2, 3, 4, 5, 60]
    assert contents(parent) == [0, 1, 2, 3, 4, 5, 70, 71]


def test_a_fork_of_full_pages_copies_nothing():
    pool = make_pool()
    parent = SequenceCache(pool)
    put(parent, range(8))

    child = parent.fork()
    put(child, [80])

    assert child.pages[:2] == parent.pages
    assert pool.num_used_pages == 3


def test_a_rewound_fork_copies_the_shared_page_that_it_writes_into():
    parent = SequenceCache(make_pool())
    put(parent, range(8))

    child = parent.fork()
    child.rewind(6)
    put(child, [60, 61, 62])

    assert contents(parent) == list(range(8))
    assert contents(child) == [0, 1, 2, 3, 4, 5, 60, 61, 62]


def test_pages_of_two_forks_are_freed_once_each():
    pool = make_pool()
    parent = SequenceCache(pool)
    put(parent, range(6))
    child = parent.fork()

    parent.close()
    parent.close()
    assert pool.num_used_pages == 2
    assert contents(child) == list(range(6))
    child.close()
    assert pool.num_free_pages == pool.num_pages


def test_rewinding_trims_all_tensors_and_frees_whole_pages():
    pool = make_pool()
    cache = SequenceCache(pool)
    put(cache, range(11))

    cache.rewind(5)

    assert contents(cache) == [0, 1, 2, 3, 4]
    assert pool.num_used_pages == 2
    put(cache, [50])
    assert contents(cache) == [0, 1, 2, 3, 4, 50]


@pytest.mark.parametrize("length", [-1, 4])
def test_rewinding_beyond_the_sequence_is_refused(length):
    cache = SequenceCache(make_pool())
    put(cache, range(3))

    with pytest.raises(UsageError, match=f"3 tokens cannot be rewound to {length}"):
        cache.rewind(length)


def test_pages_needed_counts_the_copy_of_a_shared_page():
    pool = make_pool()
    parent = SequenceCache(pool)
    put(parent, range(6))

    assert parent.pages_needed(2) == 0
    child = parent.fork()
    assert child.pages_needed(0) == 0
    assert child.pages_needed(1) == 1
    assert child.pages_needed(3) == 2
    child.reserve(3)
    assert pool.num_used_pages == 4


def test_without_room_for_a_copy_nothing_changes():
    pool = make_pool(num_pages=2)
    parent = SequenceCache(pool)
    put(parent, range(6))
    child = parent.fork()

    with pytest.raises(CapacityError):
        child.reserve(1)

    assert contents(child) == contents(parent) == list(range(6))
    assert pool.references(parent.pages[1]) == 2


def test_decode_steps_do_not_rebuild_the_slots():
    cache = SequenceCache(make_pool(num_pages=256))

    addresses = set()
    for value in range(1000):
        put(cache, [value])
        addresses.add(cache.rows("latent", 0, 1).slots_S.data_ptr())

    assert contents(cache) == list(range(1000))
    assert len(addresses) <= 10


@pytest.mark.parametrize("action", ["reserve", "rewind", "fork", "commit"])
def test_a_closed_sequence_refuses_work(action):
    cache = SequenceCache(make_pool())
    cache.close()
    calls = {
        "reserve": lambda: cache.reserve(1),
        "rewind": lambda: cache.rewind(0),
        "fork": cache.fork,
        "commit": lambda: cache.commit(0),
    }

    with pytest.raises(UsageError, match="the sequence is closed"):
        calls[action]()
    assert cache.is_closed


@pytest.mark.parametrize("action", ["fork", "rewind"])
def test_nothing_is_shared_or_trimmed_in_the_middle_of_a_step(action):
    cache = SequenceCache(make_pool())
    put(cache, [0])
    cache.reserve(1)

    with pytest.raises(UsageError, match="in the middle of a step"):
        cache.fork() if action == "fork" else cache.rewind(0)


@pytest.mark.parametrize("num_tokens", [-1, 3])
def test_only_what_was_reserved_can_be_committed(num_tokens):
    cache = SequenceCache(make_pool())
    cache.reserve(2)

    with pytest.raises(UsageError, match="2 were reserved"):
        cache.commit(num_tokens)


def test_a_step_of_no_tokens_is_refused():
    with pytest.raises(UsageError, match="room for 0 tokens"):
        SequenceCache(make_pool()).reserve(0)


class SequenceLaws(RuleBasedStateMachine):
    """Sequences that are extended, cancelled, forked, rewound and closed never disturb each other."""

    def __init__(self):
        super().__init__()
        self.pool = make_pool(num_pages=9)
        self.sequences = [(SequenceCache(self.pool), [])]
        self.next_value = 0

    def draw(self, data):
        return data.draw(st.integers(0, len(self.sequences) - 1))

    @rule(data=st.data(), num_tokens=st.integers(1, 10), commits=st.booleans())
    def step(self, data, num_tokens, commits):
        cache, values = self.sequences[self.draw(data)]
        new = list(range(self.next_value, self.next_value + num_tokens))
        self.next_value += num_tokens
        needed = cache.pages_needed(num_tokens)
        before = self.pool.num_free_pages
        if needed > before:
            with pytest.raises(CapacityError):
                cache.reserve(num_tokens)
            return
        cache.reserve(num_tokens)
        assert before - self.pool.num_free_pages == needed
        put(cache, new, commit=commits)
        if commits:
            values.extend(new)

    @rule(data=st.data())
    def fork(self, data):
        cache, values = self.sequences[self.draw(data)]
        self.sequences.append((cache.fork(), list(values)))

    @rule(data=st.data())
    def rewind(self, data):
        cache, values = self.sequences[self.draw(data)]
        length = data.draw(st.integers(0, len(values)))
        cache.rewind(length)
        del values[length:]

    @rule(data=st.data())
    def close(self, data):
        cache, _ = self.sequences.pop(self.draw(data))
        cache.close()
        cache.close()
        if not self.sequences:
            assert self.pool.num_free_pages == self.pool.num_pages
            self.sequences.append((SequenceCache(self.pool), []))

    @invariant()
    def every_sequence_holds_its_own_rows(self):
        for cache, values in self.sequences:
            assert cache.length == len(values)
            assert contents(cache) == values

    @invariant()
    def pages_are_counted_right(self):
        uses = Counter(page for cache, _ in self.sequences for page in cache.pages)
        assert self.pool.num_used_pages == len(uses)
        assert self.pool.num_free_pages + self.pool.num_used_pages == self.pool.num_pages
        assert all(self.pool.references(page) == count for page, count in uses.items())
        for cache, _ in self.sequences:
            assert len(set(cache.pages)) == len(cache.pages) == -(-cache.length // 4)


TestSequenceLaws = SequenceLaws.TestCase
TestSequenceLaws.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
