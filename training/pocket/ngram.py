"""The bar: an interpolated Kneser-Ney 5-gram with modified discounts, on the tokens that pocket was trained on.

    PYTHONPATH=src python -m training.pocket.ngram DATA [MOST_TRAINING_TOKENS]

Prints bits per byte of the same held-out tokens that training/pocket/evaluation.py measures, one JSON line.

Source: Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1998), section 3.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.pocket.evaluation import held_out_tokens
from training.pocket.shelf import Shelf, Vocabulary

ORDER = 5
HELD_OUT_TOKENS = 1_000_000


@dataclass(frozen=True)
class Level:
    """All n-grams of one length, by ascending key = (number of the first n - 1 tokens) * V + last token.

    Attributes:
        keys: one an n-gram; its place here is the n-gram's number.
        amounts: occurrences at the highest order, distinct tokens before it at the others.
        totals: per context, the sum of its amounts.
        left_over: per context, the weight given to the shorter context.
        discounts: for amounts 1, 2 and from 3 on.
    """

    keys: np.ndarray
    amounts: np.ndarray
    totals: np.ndarray
    left_over: np.ndarray
    discounts: np.ndarray


def numbered(ranks: np.ndarray, tokens: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct n-grams out of the numbers of their first tokens and their last token: keys, numbers, counts."""
    keys, inverse, counts = np.unique(ranks.astype(np.int64) * size + tokens, return_inverse=True, return_counts=True)
    return keys, inverse.astype(np.int32), counts


def build(tokens: np.ndarray, size: int) -> list[Level]:
    """Count every order; index 0 holds single tokens."""
    tokens = tokens.astype(np.int64)
    keys: list[np.ndarray] = []
    ranks: list[np.ndarray] = []
    counts = np.zeros(0)
    for order in range(1, ORDER + 1):
        prefix = np.zeros(len(tokens), np.int32) if order == 1 else ranks[-1][:-1]
        found, numbers, counts = numbered(prefix, tokens[order - 1 :], size)
        keys.append(found)
        ranks.append(numbers)
        print(f"{order}-grams: {len(found):,}", file=sys.stderr, flush=True)
    levels = []
    for order in range(ORDER, 0, -1):
        amounts = counts if order == ORDER else left_neighbours(ranks[order - 1], ranks[order], len(keys[order - 1]))
        num_contexts = 1 if order == 1 else len(keys[order - 2])
        levels.append(level(keys[order - 1], amounts.astype(np.float64), keys[order - 1] // size, num_contexts))
    return levels[::-1]


def left_neighbours(ranks: np.ndarray, longer: np.ndarray, count: int) -> np.ndarray:
    """How many distinct tokens stand before each n-gram: its number among the ends of distinct (n+1)-grams."""
    place = np.zeros(int(longer.max()) + 1, np.int64)
    place[longer] = np.arange(len(longer))
    return np.bincount(ranks[place + 1], minlength=count)


def level(keys: np.ndarray, amounts: np.ndarray, contexts: np.ndarray, num_contexts: int) -> Level:
    """Discounts by Chen and Goodman's estimate, and what they leave over in each context."""
    tally = [float((amounts == count).sum()) for count in (1, 2, 3, 4)]
    share = tally[0] / max(tally[0] + 2 * tally[1], 1)
    estimates = [i + 1 - (i + 2) * share * tally[i + 1] / max(tally[i], 1) for i in range(3)]
    discounts = np.array([0.0, *np.clip(estimates, 0.1, 2.9)])
    taken = discounts[np.minimum(amounts, 3).astype(int)]
    totals = np.bincount(contexts, amounts, num_contexts)
    left_over = np.bincount(contexts, taken, num_contexts) / np.maximum(totals, 1)
    return Level(keys, amounts, totals, np.where(totals > 0, left_over, 1.0), discounts)


def look_up(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Places of wanted keys, -1 where there is none."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where((keys[places] == wanted) & (wanted >= 0), places, -1)


def probabilities(levels: list[Level], tokens: np.ndarray, size: int) -> np.ndarray:
    """Probability of every token from the sixth on, given the four before it."""
    tokens = tokens.astype(np.int64)
    count = len(tokens) - ORDER
    result = np.full(count, 1.0 / size)
    for order in range(1, ORDER + 1):
        start = ORDER - order + 1
        context = np.zeros(count, np.int64)
        for step in range(order - 1):
            wanted = np.where(context < 0, -1, context * size + tokens[start + step : start + step + count])
            context = look_up(levels[step].keys, wanted)
        here = levels[order - 1]
        gram = look_up(here.keys, np.where(context < 0, -1, context * size + tokens[ORDER:]))
        amounts = np.where(gram < 0, 0.0, here.amounts[gram])
        kept = amounts - here.discounts[np.minimum(amounts, 3).astype(int)]
        own = kept / np.maximum(here.totals[context], 1)
        is_known = (context >= 0) & (here.totals[context] > 0)
        result = np.where(is_known, own + here.left_over[context] * result, result)
    return result


def main() -> None:
    data = Path(sys.argv[1])
    vocabulary = Vocabulary.read(data / "tokenizer.json")
    size = len(vocabulary.num_bytes)
    shelf = Shelf.read(data / "train.npz.xz", vocabulary.newline)
    most = int(sys.argv[2]) if len(sys.argv) > 2 else len(shelf.tokens) + shelf.num_files
    training = held_out_tokens(shelf, vocabulary, most)
    levels = build(training, size)
    held = held_out_tokens(Shelf.read(data / "held.npz.xz", vocabulary.newline), vocabulary, HELD_OUT_TOKENS)
    bits = -np.log2(probabilities(levels, held, size))
    num_bytes = vocabulary.num_bytes[held[ORDER:]]
    per_byte = float(bits[num_bytes > 0].sum() / num_bytes.sum())
    print(json.dumps({"training_tokens": len(training), "held_out_tokens": len(held), "bits_per_byte": per_byte}))


if __name__ == "__main__":
    main()
