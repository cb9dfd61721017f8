"""A checkpoint's metadata -> ModelConfig, whichever layout it comes in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from longlens.model.config import ConfigReading
from longlens.model.config_gguf import read_gguf_config
from longlens.model.config_huggingface import read_huggingface_config


def read_config(
    layout: Literal["gguf", "safetensors"], metadata: Mapping[str, object], tensor_names: Collection[str]
) -> ConfigReading:
    """Read a configuration.

    Args:
        layout: how the checkpoint is stored.
        metadata: a GGUF's metadata, or config.json.
        tensor_names: of the checkpoint.

    Raises:
        UnsupportedModelError: an architecture that longlens does not run.
        ConfigError: a missing key that changes the mathematics, or a value that is not understood.
    """
    if layout == "gguf":
        return read_gguf_config(metadata, tensor_names)
    return read_huggingface_config(metadata)
