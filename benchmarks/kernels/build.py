"""A build of the C++ library in a process of its own, which multiplies when asked and says how long it took.

Two builds cannot live in one process: their classes have the same names.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import ModuleType

import numpy as np

from longlens.formats.element_types import GGML_TYPES

_TYPES = {kind.name: kind for kind in GGML_TYPES.values()}
# Where a block's halves lie: random bits there would be infinite or not a number.
_HALVES = {"Q6_K": (208,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q4_1": (0, 2)}


@dataclass(frozen=True)
class Product:
    """Rows of random blocks times tokens, on a number of threads of one instruction set (empty: the best)."""

    type_name: str
    rows: int
    width: int
    tokens: int
    threads: int
    unit: str

    def weights(self) -> np.ndarray:
        """Blocks with random bits and tame scales."""
        kind = _TYPES[self.type_name]
        count = self.rows * self.width // kind.block_elements
        blocks = np.random.default_rng(0).integers(0, 256, (count, kind.block_bytes), dtype=np.uint8)
        for place in _HALVES.get(self.type_name, (0,)):
            blocks[:, place : place + 2] = np.full((count, 1), 0.01, np.float16).view(np.uint8)
        return blocks


def installed_build() -> str:
    """The file of the installed library."""
    spec = importlib.util.find_spec("longlens.kernels._native")
    if spec is None or spec.origin is None:
        raise SystemExit("the C++ kernels are not built")
    return spec.origin


class Build:
    """A library and one product at a time."""

    def __init__(self, path: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(path, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def prepare(self, product: Product) -> None:
        """Make the operands."""
        self._ask(product)

    def seconds(self) -> float:
        """Multiply once."""
        return self._ask(None)

    def _ask(self, question: Product | None) -> float:
        self._connection.send(question)
        return float(self._connection.recv())


def _load(path: str) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader("_native", path)
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("_native", loader, origin=path))
    loader.exec_module(module)
    return module


def _serve(path: str, connection: Connection) -> None:
    native = _load(path)
    product, processor = Product("Q4_K", 0, 256, 0, 1, ""), None
    weights = x = out = np.empty(0)
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        if question is not None:
            product, processor = question, native.Processor(question.threads, question.unit)
            weights = product.weights()
            x = np.random.default_rng(1).standard_normal((product.tokens, product.width), dtype=np.float32)
            out = np.zeros((product.tokens, product.rows), np.float32)
            connection.send(0.0)
            continue
        number, addresses = native.type_number(product.type_name), [a.ctypes.data for a in (weights, x, out)]
        start = time.perf_counter()
        processor.multiply(
            number, addresses[0], product.rows, product.width, addresses[1], product.width, product.tokens,
            addresses[2], product.rows, fine=False,
        )  # fmt: skip
        connection.send(time.perf_counter() - start)
