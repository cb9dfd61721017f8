"""The small tensors on which quantisers are compared: whole numbers of a fixed generator, so that anyone has the same.

Needs numpy alone; the tests import it.
"""

import numpy as np

from tests.golden.tiny_models import random_tokens

ROWS, COLUMNS = 8, 1024
_LEVELS = 2**20


def tensors() -> dict[str, np.ndarray]:
    """fp32 [8, 1024] each, by what is particular about it."""
    bell = sum(_uniform(seed) for seed in range(1, 13))
    other = _uniform(20)
    row_sizes = 10.0 ** np.linspace(-4, 2, ROWS)[:, None]
    found = {
        "bell": 0.02 * bell,
        "heavy tails": bell**3,
        "uniform": other,
        "positive": np.abs(bell),
        "negative": -0.5 - np.abs(bell),
        "mostly zero": np.where(np.abs(other) < 0.1, bell, 0),
        "outliers": np.where(np.abs(other) < 0.001, 30 * bell, bell),
        "rows of many sizes": bell * row_sizes,
        "whole numbers": np.round(4 * other),
        "tiny": 1e-5 * bell,
        "alike": np.full((ROWS, COLUMNS), 0.3),
        "alike and negative": np.full((ROWS, COLUMNS), -0.3),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def _uniform(seed: int) -> np.ndarray:
    return random_tokens(seed, ROWS * COLUMNS, _LEVELS).reshape(ROWS, COLUMNS) / (_LEVELS / 2) - 1
