"""Our side: python -m benchmarks.peers.peer_longlens MODEL CONTEXT_TOKENS"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import longlens
from benchmarks.peers.worker import Start, own_stdout, serve
from benchmarks.peers.workload import NUM_THREADS
from longlens.chat.facade import LoadedModel


class LonglensPeer:
    """A session with the prefix, and a fork of it that reads."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._base = self._fork = model.session()

    def settings(self) -> dict[str, object]:
        return {"version": longlens.__version__, "torch": torch.__version__, "plan": self._model.plan.as_json()}

    def prepare(self, start: Start) -> None:
        self._fork.close()
        self._base.close()
        self._base = self._fork = self._model.session()
        self._base.extend(start.prefix)

    def reset(self) -> None:
        if self._fork is not self._base:
            self._fork.close()
        self._fork = self._base.fork()

    def read(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        self._fork.extend(token_ids)
        return np.asarray(self._fork.logits().numpy())


def main() -> None:
    answers = own_stdout()
    model, context = sys.argv[1:]
    with longlens.load(model, device="cpu", context=int(context), num_threads=NUM_THREADS) as loaded:
        serve(LonglensPeer(loaded), sys.stdin, answers)


if __name__ == "__main__":
    main()
