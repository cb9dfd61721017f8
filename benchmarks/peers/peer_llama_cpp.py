"""llama.cpp through llama-cpp-python's bindings: python -m benchmarks.peers.peer_llama_cpp MODEL

Needs neither longlens nor torch. The bindings load the libraries that LLAMA_CPP_LIB_PATH names; README.md says how
they are built. Everything that llama-bench does for a sample is done here in the same way (one `llama_decode` per
batch of at most 2,048 tokens, or per token), and the logits can be had as well.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import llama_cpp.llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.worker import Start, own_stdout, serve
from benchmarks.peers.workload import NUM_THREADS

BATCH_TOKENS = 2048
_LOG_LEVEL_ERROR = 4


class LlamaCppPeer:
    """A model, and a context made anew for every workload, because ubatch and length belong to it."""

    def __init__(self, path: Path) -> None:
        self._log = llama.llama_log_callback(_print_errors)  # kept: the library holds a bare pointer to it
        llama.llama_log_set(self._log, None)
        llama.llama_backend_init()
        self._model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        if not self._model:
            raise ValueError(f"llama.cpp cannot read {path.name}")
        self._vocab_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._batch = llama.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._context: llama.llama_context_p | None = None
        self._num_prefix = self._num_read = 0

    def settings(self) -> dict[str, object]:
        return {
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "system_info": llama.llama_print_system_info().decode(),
            "flash_attention": True,
            "cache": "f16",
            "batch_tokens": BATCH_TOKENS,
        }

    def prepare(self, start: Start) -> None:
        if self._context is not None:
            llama.llama_free(self._context)
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = -(-(len(start.prefix) + start.room_tokens) // 256) * 256
        parameters.n_batch = BATCH_TOKENS
        parameters.n_ubatch = start.ubatch_tokens
        parameters.n_threads = parameters.n_threads_batch = NUM_THREADS
        parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._context = llama.llama_init_from_model(self._model, parameters)
        self._num_read = 0
        if start.prefix:
            self.read(start.prefix)
        self._num_prefix = self._num_read

    def reset(self) -> None:
        memory = llama.llama_get_memory(self._context)
        if self._num_prefix == 0:
            llama.llama_memory_clear(memory, True)
        elif not llama.llama_memory_seq_rm(memory, 0, self._num_prefix, -1):
            raise RuntimeError("llama.cpp cannot go back to the prefix")
        self._num_read = self._num_prefix

    def read(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        for start in range(0, len(token_ids), BATCH_TOKENS):
            self._decode(token_ids[start : start + BATCH_TOKENS])
        flat = llama.llama_get_logits_ith(self._context, -1)  # waits for the computation
        return np.ctypeslib.as_array(flat, (self._vocab_size,)).copy()

    def _decode(self, token_ids: Sequence[int]) -> None:
        batch = self._batch
        batch.n_tokens = len(token_ids)
        for place, token in enumerate(token_ids):
            batch.token[place], batch.pos[place] = token, self._num_read + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = place == len(token_ids) - 1
        if llama.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        self._num_read += len(token_ids)


def _print_errors(level: int, text: bytes, _: object) -> None:
    if level == _LOG_LEVEL_ERROR:
        print(text.decode(errors="replace"), end="", file=sys.stderr)


def main() -> None:
    answers = own_stdout()
    serve(LlamaCppPeer(Path(sys.argv[1])), sys.stdin, answers)


if __name__ == "__main__":
    main()
