"""Sampling: from a row of logits to a token id, as one request asks for it.

The order is fixed, and is that of transformers and, but for bias and min-p, of vLLM:

1. the request's `LogitsRule`s, on raw logits: what a grammar forbids must not take part in anything that follows;
2. repetition penalty over the tokens of prompt and output, then frequency and presence penalty over those of the
   output only (vLLM's and OpenAI's reading; llama.cpp counts the last 64 tokens of both for all three);
3. logit bias: after the penalties, so that it is the caller's last word and no penalty scales it;
4. temperature: before the filters, so that top-p and min-p see the distribution that is drawn from (llama.cpp divides
   last);
5. top-k, top-p, min-p, each on what the one before it left, renormalised;
6. one uniform number from the sequence's own generator picks the token by the cumulative distribution.

Temperature 0 takes the largest logit after step 3. Equal logits are ordered by token id, the lowest first.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from longlens.engine.distribution import distribution, pick_place
from longlens.errors import LogitsError, UsageError

_DAMAGED = "the weights or a kernel are damaged; run the plain kernels"


class LogitsRule(Protocol):
    """The one port by which upper floors touch decoding: grammars, thinking budgets.

    Attributes:
        needs_host: whether `apply` wants the row in CPU memory; known before the first token and never changing.
    """

    @property
    def needs_host(self) -> bool:
        """Whether `apply` wants the row in CPU memory."""
        ...

    def apply(self, output_ids: Sequence[int], logits_V: Tensor) -> Tensor:
        """Change or mask the logits of the next token.

        Args:
            output_ids: token ids that this request sampled so far, prompt excluded; not to be changed or kept.
            logits_V: fp32 logits; the rule owns this row and may change it in place.

        Returns:
            The row to go on with; -inf forbids a token.
        """
        ...


@dataclass(frozen=True)
class SamplingParams:
    """How a request wants its tokens chosen. Every value is checked; none is clamped.

    Attributes:
        max_tokens: most tokens to sample; None is as many as the context holds; 0 reads the prompt only.
        temperature: 0 is greedy; the logits are divided by it.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens until their probabilities reach it; 1 keeps all.
        min_p: keep tokens at least this fraction as probable as the most probable one; 0 keeps all.
        repetition_penalty: logits of tokens already in prompt or output are divided by it when positive, multiplied
            when negative; 1 is none.
        frequency_penalty: subtracted once for each time that a token was sampled.
        presence_penalty: subtracted once from tokens that were sampled at all.
        logit_bias: token id -> number added to its logit; -inf forbids it.
        seed: 0 <= seed < 2**64; the same seed gives the same tokens, alone or batched; None draws one.
        stop_ids: token ids that end the answer, beside the model's own.
        ignore_eos: whether the model's own stop ids are tokens like all others.

    Raises:
        UsageError: a value is outside its range; the message names it.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "logit_bias", MappingProxyType(dict(self.logit_bias)))
        object.__setattr__(self, "stop_ids", frozenset(self.stop_ids))
        for name in ("max_tokens", "top_k", "seed"):
            value = getattr(self, name)
            _require(name, value, "a whole number", holds=value is None or isinstance(value, int))
        most = self.max_tokens
        _require("max_tokens", most, "0 or more, or none", holds=most is None or most >= 0)
        _require("temperature", self.temperature, "0 (greedy) or more", holds=0 <= self.temperature < math.inf)
        _require("top_k", self.top_k, "0 (all tokens) or more", holds=self.top_k >= 0)
        _require("top_p", self.top_p, "above 0 and at most 1 (all tokens)", holds=0 < self.top_p <= 1)
        _require("min_p", self.min_p, "between 0 (all tokens) and 1", holds=0 <= self.min_p <= 1)
        divisor = self.repetition_penalty
        _require("repetition_penalty", divisor, "above 0; 1 is none", holds=0 < divisor < math.inf)
        for name in ("frequency_penalty", "presence_penalty"):
            value = getattr(self, name)
            _require(name, value, "a finite number; 0 is none", holds=math.isfinite(value))
        for token_id, bias in self.logit_bias.items():
            name = f"logit_bias of token {token_id}"
            _require(name, bias, "a number or -inf (never that token)", holds=bias < math.inf)
        seed = self.seed
        _require("seed", seed, "between 0 and 2**64 - 1", holds=seed is None or 0 <= seed < 2**64)

    @property
    def has_penalties(self) -> bool:
        """Whether tokens already seen change the logits."""
        return self.repetition_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0


class Sampler:
    """Chooses one request's tokens; it keeps the request's random generator and the counts that penalties need."""

    def __init__(
        self, params: SamplingParams, rules: Sequence[LogitsRule], prompt_ids: Sequence[int], vocab_size: int
    ) -> None:
        """Begin a request.

        Raises:
            UsageError: a bias or stop id lies outside the vocabulary.
        """
        for name, ids in (("logit_bias", params.logit_bias), ("stop_ids", params.stop_ids)):
            for token_id in ids:
                allowed = f"between 0 and {vocab_size - 1}"
                _require(f"a token id in {name}", token_id, allowed, holds=0 <= token_id < vocab_size)
        self.params = params
        self.rules = tuple(rules)
        self.seed = secrets.randbits(64) if params.seed is None else params.seed
        self._generator = torch.Generator().manual_seed(self.seed)
        self._bias_ids = torch.tensor(list(params.logit_bias), dtype=torch.int64)
        self._biases = torch.tensor(list(params.logit_bias.values()), dtype=torch.float32)
        self._is_seen_V = torch.zeros(vocab_size if params.has_penalties else 0, dtype=torch.bool)
        self._counts_V = torch.zeros(vocab_size if params.has_penalties else 0, dtype=torch.float32)
        if params.has_penalties:
            self._is_seen_V[torch.tensor(list(set(prompt_ids)), dtype=torch.int64)] = True

    def sample(self, logits_V: Tensor, output_ids: Sequence[int]) -> int:
        """Choose the next token id and count it.

        Args:
            logits_V: fp32 logits of the last position; left as they are.
            output_ids: token ids that this request sampled so far.

        Raises:
            LogitsError: the model's logits are not all finite, or every token is forbidden.
        """
        row_V = self._adjusted(logits_V, output_ids)
        if self.params.temperature == 0:
            token_id = int((row_V == row_V.max()).nonzero()[0])
        else:
            ids_X, probabilities_X = distribution(
                row_V,
                temperature=self.params.temperature,
                top_k=self.params.top_k,
                top_p=self.params.top_p,
                min_p=self.params.min_p,
            )
            uniform = float(torch.rand(1, generator=self._generator, dtype=torch.float64))
            token_id = int(ids_X[pick_place(probabilities_X, uniform)])
        if self.params.has_penalties:
            self._is_seen_V[token_id] = True
            self._counts_V[token_id] += 1
        return token_id

    def _adjusted(self, logits_V: Tensor, output_ids: Sequence[int]) -> Tensor:
        _check_logits(logits_V, "the model's logits", _DAMAGED)
        if math.isinf(float(logits_V.min())):  # only rules and bias may forbid a token
            raise LogitsError("the model's logits hold -inf; no token can be chosen", _DAMAGED)
        if not self.rules and not self.params.has_penalties and not self.params.logit_bias:
            return logits_V
        row_V = logits_V.clone()
        for rule in self.rules:
            row_V = rule.apply(output_ids, row_V.cpu() if rule.needs_host else row_V.to(logits_V.device))
        row_V = row_V.to(logits_V.device)
        if self.params.has_penalties:
            row_V = _penalised(row_V, self._is_seen_V.to(row_V.device), self._counts_V.to(row_V.device), self.params)
        if self.params.logit_bias:
            row_V = row_V.index_add(0, self._bias_ids.to(row_V.device), self._biases.to(row_V.device))
        _check_logits(
            row_V, "the logits after rules and bias", "let the grammar or logit_bias allow at least one token"
        )
        return row_V


def _penalised(logits_V: Tensor, is_seen_V: Tensor, counts_V: Tensor, params: SamplingParams) -> Tensor:
    scaled_V = torch.where(logits_V > 0, logits_V / params.repetition_penalty, logits_V * params.repetition_penalty)
    row_V = torch.where(is_seen_V, scaled_V, logits_V)
    return row_V - params.frequency_penalty * counts_V - params.presence_penalty * (counts_V > 0)


def _check_logits(logits_V: Tensor, what: str, mend: str) -> None:
    largest = float(logits_V.max())  # NaN if any is NaN
    if not math.isfinite(largest):
        kind = "NaN" if math.isnan(largest) else "+inf" if largest > 0 else "nothing but -inf"
        raise LogitsError(f"{what} hold {kind}; no token can be chosen", mend)


def _require(name: str, value: object, allowed: str, *, holds: bool) -> None:
    if not holds:
        raise UsageError(f"{name} is {value}", f"it must be {allowed}")
