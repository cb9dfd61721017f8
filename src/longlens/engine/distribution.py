"""The distribution that a token is drawn from: temperature, top-k, top-p, min-p."""

from __future__ import annotations

import torch
from torch import Tensor

_FIRST_CANDIDATES = 256


def distribution(
    logits_V: Tensor, *, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> tuple[Tensor, Tensor]:
    """What temperature, top-k, top-p and min-p leave of a row of logits.

    Args:
        logits_V: logits after penalties and bias.
        temperature: above 0.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the fewest most probable tokens that reach it, after top-k; 1 keeps all.
        min_p: keep tokens at least this fraction as probable as the most probable one.

    Returns:
        ids_X and their fp64 probabilities, which sum to 1 and are above 0. They are ordered by probability, the lower
        id first among equals, where top-k or top-p is on; else by id.
    """
    # The maximum goes first: no temperature, however small, overflows then.
    scaled_V = (logits_V.double() - logits_V.max()) / temperature
    ids_X = torch.arange(scaled_V.shape[0], device=scaled_V.device)
    if 0 < top_k < scaled_V.shape[0]:
        ids_X = _most_probable(scaled_V, top_k)
        scaled_V = scaled_V[ids_X]
    probabilities_X = torch.softmax(scaled_V, dim=0)
    if top_p < 1:
        ranked = _nucleus(probabilities_X, top_p)
        ids_X, probabilities_X = ids_X[ranked], probabilities_X[ranked]
    is_kept = (probabilities_X > 0) & (probabilities_X >= min_p * probabilities_X.max())
    ids_X, probabilities_X = ids_X[is_kept], probabilities_X[is_kept]
    return ids_X, probabilities_X / probabilities_X.sum()


def _most_probable(values_X: Tensor, k: int) -> Tensor:
    """Places of the k largest values, the largest first, the lower place first among equals."""
    threshold = torch.topk(values_X, k).values[-1]
    above = (values_X > threshold).nonzero()[:, 0]
    # topk breaks ties as it likes; the places that tie for the last ranks are taken in order instead.
    level = (values_X == threshold).nonzero()[: k - above.shape[0], 0]
    places = torch.cat((above, level)).sort().values
    return places[values_X[places].sort(descending=True, stable=True).indices]


def _nucleus(probabilities_X: Tensor, top_p: float) -> Tensor:
    """Places of the fewest most probable tokens whose probabilities reach top_p, the most probable first."""
    num_places = probabilities_X.shape[0]
    num_candidates = min(_FIRST_CANDIDATES, num_places)
    while True:  # a whole vocabulary is rarely worth sorting
        places = _most_probable(probabilities_X, num_candidates)
        cumulative = probabilities_X[places].cumsum(0)
        if float(cumulative[-1]) >= top_p or num_candidates == num_places:
            return places[: int((cumulative < top_p).sum()) + 1]
        num_candidates = min(4 * num_candidates, num_places)


def pick_place(probabilities_X: Tensor, uniform: float) -> int:
    """The place that a number in [0, 1) falls on when the probabilities are laid end to end."""
    cumulative = probabilities_X.cumsum(0)
    place = int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
    return min(place, probabilities_X.shape[0] - 1)  # the product may round up to the whole
