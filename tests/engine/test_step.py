import pytest
import torch

from longlens.cache.sequence_cache import SequenceCache
from longlens.engine.step import StepPart, run_step
from longlens.errors import CancelledError, CapacityError


def logits_alone(world, token_ids):
    with_all = SequenceCache(world.pool)
    (logits_TV,) = run_step(world.model, [StepPart(with_all, token_ids, "all")])
    with_all.close()
    return logits_TV


def test_logits_are_those_of_the_rows_that_are_wanted(make_world):
    world = make_world()
    parts = [
        StepPart(SequenceCache(world.pool), [1, 2, 3], "last"),
        StepPart(SequenceCache(world.pool), [4, 5], "none"),
        StepPart(SequenceCache(world.pool), [6, 7], "all"),
        StepPart(SequenceCache(world.pool), [8, 9], "last"),
    ]

    first, second, third, fourth = run_step(world.model, parts)

    assert torch.equal(first, logits_alone(world, [1, 2, 3])[-1:])
    assert second.shape == (0, world.model.vocab_size)
    assert torch.equal(third, logits_alone(world, [6, 7]))
    assert torch.equal(fourth, logits_alone(world, [8, 9])[-1:])


def test_no_logits_are_computed_where_none_are_wanted(make_world):
    world = make_world()

    (logits_XV,) = run_step(world.model, [StepPart(SequenceCache(world.pool), [1, 2], "none")])

    assert logits_XV.shape == (0, world.model.vocab_size)
    assert logits_XV.dtype == torch.float32
    assert world.model.num_logit_rows == 0


def test_a_step_goes_on_where_the_one_before_ended(make_world):
    world = make_world()
    cache = SequenceCache(world.pool)

    run_step(world.model, [StepPart(cache, [1, 2, 3], "none")])
    (logits_XV,) = run_step(world.model, [StepPart(cache, [4], "last")])

    assert world.model.calls == [[(0, 3)], [(3, 1)]]
    assert torch.equal(logits_XV, logits_alone(world, [1, 2, 3, 4])[-1:])


def test_a_cancelled_step_changes_no_part(make_world):
    world = make_world()
    caches = [SequenceCache(world.pool), SequenceCache(world.pool)]
    run_step(world.model, [StepPart(cache, [1, 2], "none") for cache in caches])
    used = world.pool.num_used_pages
    answers = iter([False, True])  # the first layer is written already

    with pytest.raises(CancelledError):
        run_step(
            world.model, [StepPart(cache, [3] * 9, "last") for cache in caches], is_cancelled=lambda: next(answers)
        )

    assert [cache.length for cache in caches] == [2, 2]
    assert world.pool.num_used_pages == used


def test_a_step_that_does_not_fit_changes_no_part(make_world):
    world = make_world(num_pages=3, max_context=12)
    caches = [SequenceCache(world.pool), SequenceCache(world.pool)]

    with pytest.raises(CapacityError):
        run_step(world.model, [StepPart(cache, [1] * 8, "last") for cache in caches])

    assert world.model.calls == []
    assert world.pool.num_free_pages == 3


def test_a_step_whose_logits_fail_changes_no_part(make_world):
    world = make_world()
    cache = SequenceCache(world.pool)

    def fail(hidden_TD):
        raise ArithmeticError("head")

    world.model.logits = fail
    with pytest.raises(ArithmeticError):
        run_step(world.model, [StepPart(cache, [1, 2], "last")])

    assert cache.length == 0
    assert world.pool.num_used_pages == 0


def test_a_step_builds_no_graph_even_over_weights_that_could_be_trained(make_world):
    world = make_world()
    weight = torch.ones((), requires_grad=True)
    plain = world.model.logits
    world.model.logits = lambda hidden_TD: plain(hidden_TD) * weight

    (logits_XV,) = run_step(world.model, [StepPart(SequenceCache(world.pool), [1, 2], "last")])

    assert not logits_XV.requires_grad
    assert not world.engine.logits([1, 2]).requires_grad
