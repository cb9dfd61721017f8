from collections import Counter

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from longlens.cache.pages import PagePool
from longlens.errors import CapacityError, UsageError
from longlens.model.state import CacheSpec, CacheTensor

SMALL = CacheSpec((CacheTensor("latent", 0, 2, "f32", 0), CacheTensor("index_key", 0, 1, "bf16", 0)), page_tokens=4)


def glm_5_2_spec(*, full_layers, num_layers=78):
    latents = [CacheTensor("latent", layer, 512 + 64, "bf16", 0) for layer in range(num_layers)]
    index_keys = [CacheTensor("index_key", layer, 128, "bf16", 0) for layer in full_layers]
    return CacheSpec((*latents, *index_keys), page_tokens=64)


def test_glm_5_2_takes_95232_bytes_a_token_as_torch_allocated_them():
    full_layers = [0, 1, 2, *range(6, 78, 4)]
    pool = PagePool(glm_5_2_spec(full_layers=full_layers), num_pages=2, device="cpu")

    assert len(full_layers) == 21
    assert pool.spec.bytes_per_token == (78 * 576 + 21 * 128) * 2 == 95_232
    assert pool.allocated_bytes == 2 * 64 * 95_232


def test_every_tensor_of_the_spec_has_a_row_for_every_slot():
    pool = PagePool(SMALL, num_pages=3, device="cpu")

    assert pool.layer_state("latent", 0).pool_PX.shape == (12, 2)
    assert pool.layer_state("index_key", 0).pool_PX.shape == (12, 1)
    assert pool.layer_state("index_key", 0).pool_PX.dtype == torch.bfloat16
    assert pool.num_tokens == 12


def test_a_page_shared_by_two_sequences_is_freed_once():
    pool = PagePool(SMALL, num_pages=2, device="cpu")
    pages = pool.allocate(1)
    pool.share(pages)

    pool.release(pages)
    assert pool.num_free_pages == 1
    pool.release(pages)
    assert pool.num_free_pages == 2
    with pytest.raises(UsageError, match="is not in use"):
        pool.release(pages)
    assert pool.num_free_pages == 2


def test_out_of_pages_names_what_is_needed_and_takes_nothing():
    pool = PagePool(SMALL, num_pages=3, device="cpu")
    pool.allocate(2)

    with pytest.raises(CapacityError, match="needs 2 more pages of 4 tokens, 1 of 3 are free") as caught:
        pool.allocate(2)

    assert "close or rewind a session" in caught.value.mend
    assert pool.num_free_pages == 1


def test_copying_a_page_copies_every_tensor_of_the_spec():
    pool = PagePool(SMALL, num_pages=2, device="cpu")
    for kind in ("latent", "index_key"):
        pool.layer_state(kind, 0).pool_PX.fill_(-1)
        pool.layer_state(kind, 0).pool_PX[:4] = torch.arange(4.0)[:, None]

    pool.copy_page(0, 1, num_tokens=3)

    for kind in ("latent", "index_key"):
        assert pool.layer_state(kind, 0).pool_PX[4:, 0].tolist() == [0, 1, 2, -1]


def test_a_tensor_that_is_not_cached_is_refused_by_name():
    pool = PagePool(SMALL, num_pages=1, device="cpu")

    with pytest.raises(UsageError, match="layer 7 caches no index_key") as caught:
        pool.layer_state("index_key", 7)
    assert "[0]" in caught.value.mend
    with pytest.raises(UsageError, match="layer 0 caches no value") as caught:
        pool.layer_state("value", 0)
    assert "no value rows at all" in caught.value.mend


@pytest.mark.parametrize("num_pages", [0, -1])
def test_a_pool_without_pages_is_refused(num_pages):
    with pytest.raises(UsageError, match="holds nothing"):
        PagePool(SMALL, num_pages=num_pages, device="cpu")


class PoolLaws(RuleBasedStateMachine):
    """Whatever is allocated, shared and released: no page twice, and free + used = all."""

    NUM_PAGES = 7

    def __init__(self):
        super().__init__()
        self.pool = PagePool(SMALL, self.NUM_PAGES, "cpu")
        self.uses = Counter()

    @rule(num_pages=st.integers(0, NUM_PAGES + 1))
    def allocate(self, num_pages):
        if num_pages > self.NUM_PAGES - len(+self.uses):
            with pytest.raises(CapacityError):
                self.pool.allocate(num_pages)
            return
        pages = self.pool.allocate(num_pages)
        assert len(set(pages)) == num_pages
        assert not set(pages) & set(+self.uses)
        self.uses.update(pages)

    @precondition(lambda self: +self.uses)
    @rule(data=st.data())
    def share(self, data):
        page = data.draw(st.sampled_from(sorted(+self.uses)))
        self.pool.share([page])
        self.uses[page] += 1

    @precondition(lambda self: +self.uses)
    @rule(data=st.data())
    def release(self, data):
        page = data.draw(st.sampled_from(sorted(+self.uses)))
        self.pool.release([page])
        self.uses[page] -= 1

    @rule(page=st.integers(-1, NUM_PAGES))
    def an_unused_page_cannot_be_released_or_shared(self, page):
        if self.uses[page] == 0:
            with pytest.raises(UsageError):
                self.pool.release([page])
            with pytest.raises(UsageError):
                self.pool.share([page])

    @invariant()
    def free_and_used_are_all(self):
        assert self.pool.num_used_pages == len(+self.uses)
        assert self.pool.num_free_pages + self.pool.num_used_pages == self.NUM_PAGES
        assert [self.pool.references(page) for page in range(self.NUM_PAGES)] == [
            self.uses[page] for page in range(self.NUM_PAGES)
        ]


TestPoolLaws = PoolLaws.TestCase
TestPoolLaws.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
