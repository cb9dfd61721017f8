"""A prompt that was stopped half-way and goes on is computed as if nothing had happened: bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from longlens.cache.pages import PagePool
from longlens.engine.engine import Engine
from longlens.engine.loop import EngineLimits
from longlens.engine.sequence import CancelFlag
from longlens.errors import CancelledError
from tests.golden_models import GOLDEN, golden_model

CHUNK = 32


def engine(case: str) -> Engine:
    model = golden_model(case)
    return Engine(model, PagePool(model.cache_spec, 64, "cpu"), EngineLimits(CHUNK, 1024))


def tokens() -> list[int]:
    return np.load(GOLDEN / "glm_topk8.npz")["200/tokens"].astype(int).tolist()


def undisturbed() -> torch.Tensor:
    with engine("glm_topk8").session() as session:
        session.extend(tokens())
        return session.logits()


@pytest.mark.parametrize("stop_after", [32, 96, 160])
def test_a_cancelled_prefill_that_goes_on_is_bit_identical(stop_after: int) -> None:
    flag = CancelFlag()
    with engine("glm_topk8").session() as session:
        with pytest.raises(CancelledError):
            session.extend(
                tokens(), cancel=flag, on_progress=lambda done, _total: flag.cancel() if done >= stop_after else None
            )
        assert session.cached_tokens == stop_after
        session.extend(())
        assert torch.equal(session.logits(), undisturbed())


def test_a_prompt_that_comes_on_the_chunk_grid_is_bit_identical() -> None:
    whole = tokens()
    with engine("glm_topk8").session() as session:
        for start in range(0, len(whole), CHUNK):
            session.extend(whole[start : start + CHUNK])
        assert torch.equal(session.logits(), undisturbed())


def test_a_rewound_and_repeated_tail_on_the_grid_is_bit_identical() -> None:
    whole = tokens()
    with engine("glm_topk8").session() as session:
        session.extend(whole[:128])
        session.extend(list(reversed(whole[128:])))
        session.rewind(128)
        session.extend(whole[128:])
        assert torch.equal(session.logits(), undisturbed())


def test_a_fork_and_its_origin_go_on_bit_identically() -> None:
    whole = tokens()
    with engine("glm_topk8").session() as session:
        session.extend(whole[:64])
        fork = session.fork()
        session.extend(list(reversed(whole[64:])))
        fork.extend(whole[64:])
        assert torch.equal(fork.logits(), undisturbed())
        fork.close()


def test_off_the_grid_the_logits_stay_within_the_bound() -> None:
    whole = tokens()
    with engine("glm_topk8").session() as session:
        session.extend(whole[:45])
        session.extend(whole[45:])
        assert (session.logits() - undisturbed()).abs().max() <= 1e-4
