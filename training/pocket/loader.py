"""Batches from worker processes: each worker builds whole batches."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.pocket.packs import Packer, Recipe

Batch = dict[str, np.ndarray]


class Batches(IterableDataset):
    """Endless batches of one recipe."""

    def __init__(self, packer: Packer, recipe: Recipe, size: int, seed: int) -> None:
        self._packer, self._recipe, self._size, self._seed = packer, recipe, size, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        generator = random.Random(self._seed * 1000 + (worker.id if worker else 0))
        while True:
            yield draw_batch(self._packer, self._recipe, self._size, generator)


def draw_batch(packer: Packer, recipe: Recipe, size: int, generator: random.Random) -> Batch:
    """Examples of one recipe, stacked."""
    examples = [packer.draw(recipe, generator) for _ in range(size)]
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def batches(packer: Packer, recipe: Recipe, size: int, workers: int, seed: int) -> Iterator[Batch]:
    """Start the workers now; they wait when enough batches lie ready."""
    # Arrays pass through pipes: shared memory may be small.
    loader = DataLoader(
        Batches(packer, recipe, size, seed),
        batch_size=None,
        collate_fn=_same,
        num_workers=workers,
        prefetch_factor=3 if workers else None,
    )
    return iter(loader)


def _same(batch: Batch) -> Batch:
    return batch
