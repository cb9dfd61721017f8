"""Whether two sides computed the same: their logits after the same tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# llama.cpp rounds activations to eight bits, caches keys in f16 and, by near-ties, chooses a few other positions and
# experts; random weights have flat logits besides, whose first place a breath of wind takes. A model that is read
# wrongly shares almost no first places and, unless it is random, is off by whole nats.
MOST_KL = 0.05
LEAST_TOP1 = 0.75


@dataclass(frozen=True)
class Agreement:
    """Over the positions compared: the share with the same likeliest token, and KL(ours || theirs) in nats."""

    num_positions: int
    top1: float
    mean_kl: float
    largest_kl: float

    @property
    def holds(self) -> bool:
        """Whether both ran the same model; a speed beside logits that differ says nothing."""
        return self.mean_kl <= MOST_KL and self.top1 >= LEAST_TOP1


def agreement(ours_TV: NDArray[np.float32], theirs_TV: NDArray[np.float32]) -> Agreement:
    """Compare logits row by row.

    Raises:
        ValueError: other shapes, no rows, or values that are not finite.
    """
    if ours_TV.shape != theirs_TV.shape or ours_TV.ndim != 2 or not len(ours_TV):
        raise ValueError(f"logits of shapes {ours_TV.shape} and {theirs_TV.shape}")
    if not (np.isfinite(ours_TV).all() and np.isfinite(theirs_TV).all()):
        raise ValueError("logits that are not finite")
    own, other = _log_softmax(ours_TV), _log_softmax(theirs_TV)
    kl_T = (np.exp(own) * (own - other)).sum(axis=-1)
    same_T = own.argmax(axis=-1) == other.argmax(axis=-1)
    return Agreement(len(kl_T), float(same_T.mean()), float(kl_T.mean()), float(kl_T.max()))


def _log_softmax(logits_TV: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits_TV.astype(np.float64) - logits_TV.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
