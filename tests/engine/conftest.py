"""A small world for the engine: an exact model whose next token depends on every cached row that it reads back."""

import time
from types import SimpleNamespace

import pytest
import torch

from longlens.cache.pages import PagePool
from longlens.engine.engine import Engine
from longlens.engine.loop import EngineLimits
from longlens.errors import CancelledError
from longlens.model.state import CacheSpec, CacheTensor

MODULUS = 1009
WIDTHS = {"latent": 4, "index_key": 3}


class FakeModel:
    """Whole-number arithmetic, so that results are exact and do not depend on who shares a step.

    Each layer mixes, for every token, the rows of all positions up to its own, each weighted by its position: a lost,
    stale or misplaced row changes everything after it. The pool is filled with NaN, which a read must never meet.
    """

    def __init__(self, *, num_layers=2, vocab_size=31, page_tokens=4, device="cpu"):
        self.device = torch.device(device)
        self.vocab_size = vocab_size
        self.num_layers = num_layers
        latents = [CacheTensor("latent", layer, WIDTHS["latent"], "f32", 0) for layer in range(num_layers)]
        index_key = CacheTensor("index_key", 0, WIDTHS["index_key"], "f32", 0)
        self.cache_spec = CacheSpec((*latents, index_key), page_tokens)
        self.calls = []  # for each forward: (first position, number of tokens) of each chunk
        self.finished_calls = []
        self.num_logit_rows = 0
        self.between_layers = lambda: None
        self.nan_after = None  # a token id after which all logits are NaN

    def forward(self, chunks, *, is_cancelled=lambda: False, trace=None):
        shapes = [(chunk.first_position, len(chunk.token_ids)) for chunk in chunks]
        self.calls.append(shapes)
        states = [self._first_state(chunk) for chunk in chunks]
        for layer in range(self.num_layers):
            self.between_layers()
            if is_cancelled():
                raise CancelledError("the step was cancelled", "run it again")
            states = [self._layer(layer, chunk, state_T) for chunk, state_T in zip(chunks, states, strict=True)]
        self.finished_calls.append(shapes)
        state_T = torch.cat(states)
        last_ids = torch.cat([torch.tensor(list(chunk.token_ids), device=self.device) for chunk in chunks])
        return torch.stack((state_T, last_ids), dim=1).float()

    def _first_state(self, chunk):
        values = [
            7 * token_id + 3 * position for position, token_id in enumerate(chunk.token_ids, chunk.first_position)
        ]
        return torch.tensor(values, device=self.device)

    def _layer(self, layer, chunk, state_T):
        mixed_T = state_T
        for kind in ("latent", "index_key") if layer == 0 else ("latent",):
            factors_X = torch.arange(1, WIDTHS[kind] + 1, device=self.device) * (layer + 2)
            rows_TX = (mixed_T[:, None] * factors_X) % 251
            chunk.state.write(kind, layer, rows_TX.float(), chunk.first_position)
            end = chunk.first_position + len(chunk.token_ids)
            cached = chunk.state.rows(kind, layer, end)
            values_SX = cached.pool_PX[cached.slots_S]
            assert cached.num_positions == end
            assert torch.isfinite(values_SX).all(), f"{kind} rows of layer {layer} were read before they were written"
            weighted_S = (values_SX.long() * factors_X.flip(0)).sum(1) * torch.arange(1, end + 1, device=self.device)
            mixed_T = (mixed_T * 31 + weighted_S.cumsum(0)[chunk.first_position :]) % MODULUS
        return mixed_T

    def logits(self, hidden_TD):
        self.num_logit_rows += hidden_TD.shape[0]
        state_T, last_T = hidden_TD[:, 0].long(), hidden_TD[:, 1].long()
        vocabulary_V = torch.arange(self.vocab_size, device=self.device)
        logits_TV = ((state_T[:, None] * (13 * vocabulary_V + 39) + 7 * vocabulary_V**2) % 997).float() / 200
        if self.nan_after is not None:
            logits_TV[last_T == self.nan_after] = float("nan")
        return logits_TV


@pytest.fixture
def make_world():
    """Builds an engine over a fake model: `make_world(chunk_tokens=8, ...)` has engine, model, pool and more."""

    def make(*, chunk_tokens=8, max_context=64, num_pages=64, stop_ids=(), clock=time.perf_counter, **model):
        fake = FakeModel(**model)
        pool = PagePool(fake.cache_spec, num_pages, fake.device)
        for tensor in fake.cache_spec.tensors:
            pool.layer_state(tensor.kind, tensor.layer).pool_PX.fill_(float("nan"))
        limits = EngineLimits(chunk_tokens, max_context, frozenset(stop_ids))
        engine = Engine(fake, pool, limits, clock=clock)
        return SimpleNamespace(engine=engine, model=fake, pool=pool, limits=limits)

    return make
