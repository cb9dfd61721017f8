"""Checkpoints that the tests of conversion open, and what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from longlens.formats.checkpoint import Checkpoint
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.weights.catalog import Catalog, build_catalog


def catalog_of(checkpoint: Checkpoint) -> Catalog:
    config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
    return build_catalog(parameter_needs(config), checkpoint.tensors, checkpoint.layout)


def big_file(path: Path, rows: int = 300, bad: float | None = None) -> Path:
    """A llama whose embedding is many pieces long."""
    generator = np.random.default_rng(1)
    writer = GGUFWriter(path, "llama")
    numbers = {"block_count": 1, "context_length": 64, "embedding_length": 256, "feed_forward_length": 256}
    numbers |= {"attention.head_count": 2, "attention.head_count_kv": 2, "vocab_size": rows}
    for key, value in numbers.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    shapes = {"token_embd": (rows, 256), "output_norm": (256,)}
    shapes |= {f"blk.0.{name}": (256, 256) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {f"blk.0.{name}": (256, 256) for name in ("ffn_gate", "ffn_up", "ffn_down")}
    shapes |= {f"blk.0.{name}": (256,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        values = generator.standard_normal(shape).astype(np.float32)
        if bad is not None and name == "blk.0.ffn_up":
            values[17, 5] = bad
        writer.add_tensor(f"{name}.weight", values, raw_dtype=GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
