import pytest
import torch

from longlens.cache.pages import PagePool
from longlens.engine.token_context import TokenContext
from longlens.errors import UsageError
from longlens.model.state import CacheSpec, CacheTensor

SPEC = CacheSpec((CacheTensor("latent", 0, 1, "f32", 0),), page_tokens=4)


def make_context(*, num_tokens=6, num_read=6):
    context = TokenContext.empty(PagePool(SPEC, 8, "cpu"))
    context.extend(range(num_tokens))
    if num_read:
        context.cache.reserve(num_read)
        context.cache.commit(num_read)
    if num_read == num_tokens:
        context.logits_V = torch.tensor([0.5])
    context.start_turn()
    return context


def test_new_tokens_are_unread_and_their_logits_unknown():
    context = make_context()

    context.extend([7, 8])

    assert context.token_ids == [0, 1, 2, 3, 4, 5, 7, 8]
    assert context.num_unread == 2
    assert context.logits_V is None


def test_extending_by_nothing_keeps_the_logits():
    context = make_context()

    context.extend([])

    assert context.logits_V is not None


def test_rewinding_forgets_tokens_rows_and_logits():
    context = make_context()

    context.rewind(3)

    assert context.token_ids == [0, 1, 2]
    assert context.cache.length == 3
    assert context.logits_V is None
    assert context.meter.cached_tokens == 3


def test_rewinding_unread_tokens_touches_no_row():
    context = make_context(num_read=4)

    context.rewind(5)

    assert context.cache.length == 4
    assert context.num_unread == 1


def test_rewinding_to_the_present_changes_nothing():
    context = make_context()

    context.rewind(6)

    assert context.cache.length == 6
    assert context.logits_V is not None


@pytest.mark.parametrize("num_tokens", [-1, 7])
def test_rewinding_elsewhere_is_refused(num_tokens):
    with pytest.raises(UsageError, match=f"6 tokens cannot be rewound to {num_tokens}"):
        make_context().rewind(num_tokens)


def test_one_row_is_computed_again_where_only_its_logits_are_missing():
    context = make_context()
    context.rewind(5)

    context.prepare_to_read()

    assert context.cache.length == 4
    assert context.num_unread == 1


@pytest.mark.parametrize("num_read", [4, 6])
def test_nothing_is_computed_again_where_reading_or_memory_yields_the_logits(num_read):
    context = make_context(num_read=num_read)

    context.prepare_to_read()

    assert context.cache.length == num_read


def test_a_fork_has_the_tokens_rows_and_logits_and_goes_its_own_way():
    parent = make_context()

    child = parent.fork()
    child.extend([9])

    assert child.token_ids == [0, 1, 2, 3, 4, 5, 9]
    assert child.meter.cached_tokens == child.cache.length == 6
    assert parent.token_ids == [0, 1, 2, 3, 4, 5]
    assert torch.equal(parent.logits_V, torch.tensor([0.5]))


def test_closing_twice_frees_the_pages_once():
    context = make_context()
    twin = context.fork()

    context.close()
    context.close()

    assert context.cache.pool.num_used_pages == 2
    twin.close()
    assert context.cache.pool.num_used_pages == 0


@pytest.mark.parametrize("action", ["rewind", "fork", "close"])
def test_a_context_at_work_is_left_alone(action):
    context = make_context()
    context.is_busy = True
    calls = {"rewind": lambda: context.rewind(0), "fork": context.fork, "close": context.close}

    with pytest.raises(UsageError, match="in the middle of an answer"):
        calls[action]()


@pytest.mark.parametrize("action", ["rewind", "fork"])
def test_a_closed_context_is_refused(action):
    context = make_context()
    context.close()

    with pytest.raises(UsageError, match="the session is closed"):
        context.rewind(0) if action == "rewind" else context.fork()
