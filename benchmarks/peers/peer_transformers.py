"""transformers on the dequantised weights: python -m benchmarks.peers.peer_transformers MODEL DTYPE [CONFIG]

A llama model in a GGUF file is read by transformers itself. For other architectures CONFIG is the checkpoint's
config.json, and the tensors are dequantised by gguf-py. Everything else is what `from_pretrained` chooses.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from benchmarks.peers.worker import Start, own_stdout, serve
from benchmarks.peers.workload import NUM_THREADS
from tests.golden import gguf_weights

PREFIX_CHUNK = 512
"""The prefix is read in chunks: with everything at once, the masks alone would not fit."""


class TransformersPeer:
    """A model, the cache of the prefix, and a copy of it that grows."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._base = DynamicCache(config=model.config)
        self._cache = self._base

    def settings(self) -> dict[str, object]:
        config = self._model.config
        return {
            "version": transformers.__version__,
            "torch": torch.__version__,
            "dtype": str(self._model.dtype),
            "attention": config._attn_implementation,
            "experts": getattr(config, "_experts_implementation", None),
        }

    def prepare(self, start: Start) -> None:
        self._base = self._cache = DynamicCache(config=self._model.config)
        for first in range(0, len(start.prefix), PREFIX_CHUNK):
            self.read(start.prefix[first : first + PREFIX_CHUNK])

    def reset(self) -> None:
        self._cache = copy.deepcopy(self._base)

    @torch.no_grad()
    def read(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        ids = torch.tensor([list(token_ids)])
        output = self._model(ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return np.asarray(output.logits[0, -1].float().numpy())


def load(path: Path, dtype: torch.dtype, config: Path | None) -> PreTrainedModel:
    """A model in evaluation mode.

    Raises:
        ValueError: a tensor that the file lacks, or that transformers does not know.
    """
    if config is None:
        return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype).eval()
    described = json.loads(config.read_text())
    draft = f"model.layers.{described['num_hidden_layers']}."  # transformers has no draft layer for these models
    weights = gguf_weights.read([path], described)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(described))
        kept = {name: array for name, array in weights.items() if not name.startswith(draft)}
        save_file(kept, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    missing = set(report["missing_keys"]) - ({"lm_head.weight"} if described.get("tie_word_embeddings") else set())
    if missing or report["mismatched_keys"] or report["unexpected_keys"]:
        raise ValueError(f"transformers did not read these weights as meant: {report}")
    return model.eval()


def main() -> None:
    answers = own_stdout()
    torch.set_num_threads(NUM_THREADS)
    path, dtype, *config = sys.argv[1:]
    model = load(Path(path), getattr(torch, dtype), Path(config[0]) if config else None)
    serve(TransformersPeer(model), sys.stdin, answers)


if __name__ == "__main__":
    main()
