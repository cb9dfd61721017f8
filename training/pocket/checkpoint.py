"""Write trained parameters in the layout of a Hugging Face checkpoint, and read them back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longlens.model.config import MlaConfig, ModelConfig
from longlens.model.needs import parameter_needs
from longlens.weights.names import Arrangement, tensor_name

NUM_SHARDS = 3


def to_huggingface(config: ModelConfig, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and rearrange; bf16, but for the routers' biases."""
    tensors: dict[str, Tensor] = {}
    for need in parameter_needs(config):
        name, arrangement = tensor_name(need.name, "safetensors")
        value = parameters[need.name].detach().cpu()
        value = value.float() if name.endswith("e_score_correction_bias") else value.bfloat16()
        if arrangement is Arrangement.PER_EXPERT:
            tensors |= {name.replace("{expert}", str(e)): part.clone() for e, part in enumerate(value)}
        elif arrangement is Arrangement.KEY_ROWS:
            rest = parameters[need.name.replace(".key", ".value")].detach().cpu().bfloat16()
            tensors[name] = torch.cat([value, rest], 1).flatten(0, 1)
        elif arrangement is not Arrangement.VALUE_ROWS:
            tensors[name] = value.contiguous()
    return tensors


def from_huggingface(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The project's parameters in fp32."""
    if not isinstance(config.attention, MlaConfig):
        raise SystemExit("only latent attention is read here")
    keys = config.attention.qk_nope_head_dim
    parameters = {}
    for need in parameter_needs(config):
        name, arrangement = tensor_name(need.name, "safetensors")
        if arrangement is Arrangement.PER_EXPERT:
            value = torch.stack([tensors[name.replace("{expert}", str(e))] for e in range(need.shape[0])])
        elif arrangement in (Arrangement.KEY_ROWS, Arrangement.VALUE_ROWS):
            heads = tensors[name].view(need.shape[0], -1, need.shape[2])
            value = heads[:, :keys] if arrangement is Arrangement.KEY_ROWS else heads[:, keys:]
        else:
            value = tensors[name]
        parameters[need.name] = value.float().contiguous()
    return parameters


def save(config: ModelConfig, parameters: Mapping[str, Tensor], folder: Path) -> None:
    """Write the shards, each near a third of the bytes."""
    tensors = to_huggingface(config, parameters)
    total = sum(tensor.nbytes for tensor in tensors.values())
    shards: list[dict[str, Tensor]] = [{} for _ in range(NUM_SHARDS)]
    written = 0
    for name, tensor in tensors.items():
        shards[min(NUM_SHARDS - 1, written * NUM_SHARDS // total)][name] = tensor
        written += tensor.nbytes
    for number, shard in enumerate(shards, start=1):
        file = folder / f"model-{number:05d}-of-{NUM_SHARDS:05d}.safetensors"
        save_file(shard, file.with_suffix(".new"), metadata={"format": "pt"})
        file.with_suffix(".new").chmod(0o644)
        file.with_suffix(".new").replace(file)


def load(config: ModelConfig, folder: Path) -> dict[str, Tensor]:
    """Read the shards of a folder."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return from_huggingface(config, tensors)
