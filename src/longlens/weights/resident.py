"""Weights in memory: read from the file when they are first asked for, expanded, and kept on the device.

The simplest store there is: nothing is quantised any more once it is here. Stores that keep the file's blocks come
with the kernels that can use them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from longlens.errors import ParameterError
from longlens.formats.checkpoint import Checkpoint
from longlens.formats.tensors import TensorInfo
from longlens.kernels.packed import BlockScales, PackedTensor, block_scales, pack
from longlens.weights.catalog import Catalog, ParameterSource, StoredTensor
from longlens.weights.expert_store import ResidentExperts
from longlens.weights.names import Arrangement


class ResidentWeights:
    """Gives out the parameters of a catalog as dense tensors of one element type (or fp32 where the model says so)."""

    def __init__(self, checkpoint: Checkpoint, catalog: Catalog, device: torch.device, dtype: torch.dtype) -> None:
        """Read from an open checkpoint; nothing is read yet."""
        self.device = device
        self._checkpoint = checkpoint
        self._catalog = catalog
        self._dtype = dtype
        self._block_size = _block_size(checkpoint)

    def tensor(self, name: str) -> Tensor:
        """One parameter, as the model wants it.

        Raises:
            ParameterError: the catalog has no such parameter.
            UnsupportedModelError: its element type cannot be expanded.
        """
        source = self._catalog.sources.get(name)
        if source is None:
            raise ParameterError(
                f"the parameter {name!r} is not in the catalog", "the model asks for more than its needs say: report it"
            )
        dtype = torch.promote_types(self._dtype, torch.float32) if source.need.precision == "fp32" else self._dtype
        return _arranged(source, [self._dense(tensor, dtype) for tensor in source.tensors]).to(self.device)

    def experts(self, prefix: str) -> ResidentExperts:
        """The routed experts of one layer, all of them expanded."""
        gate, up, down = (self.tensor(f"{prefix}{name}_proj.weight") for name in ("gate", "up", "down"))
        return ResidentExperts(gate, up, down)

    def _dense(self, stored: StoredTensor, dtype: torch.dtype) -> Tensor:
        scales = None
        if stored.scale is not None:
            grid = self._packed(stored.scale).dense(torch.float32)
            scales = block_scales(grid, stored.info.shape, self._block_size)
        return self._packed(stored.info, scales).dense(dtype)

    def _packed(self, info: TensorInfo, scales: BlockScales | None = None) -> PackedTensor:
        return pack(info, self._checkpoint.read(info.name), scales)


def _arranged(source: ParameterSource, tensors: list[Tensor]) -> Tensor:
    shape = source.need.shape
    match source.arrangement:
        case Arrangement.PER_EXPERT:
            return torch.stack(tensors)
        case Arrangement.KEY_ROWS:
            return tensors[0].view(shape[0], -1, shape[2])[:, : shape[1]].contiguous()
        case Arrangement.VALUE_ROWS:
            return tensors[0].view(shape[0], -1, shape[2])[:, -shape[1] :].contiguous()
        case Arrangement.TRANSPOSED:
            return tensors[0].view(*shape[:-2], shape[-1], shape[-2]).transpose(-1, -2).contiguous()
        case Arrangement.SAME:
            return tensors[0].view(shape)


def _block_size(checkpoint: Checkpoint) -> int:
    """Side of an FP8 block, from `quantization_config`; 128 is what every release of the family uses."""
    quantisation = checkpoint.metadata.get("quantization_config")
    sides = quantisation.get("weight_block_size") if isinstance(quantisation, dict) else None
    if sides is None:
        return 128
    if not isinstance(sides, list) or len(sides) != 2 or sides[0] != sides[1] or not _is_size(sides[0]):
        raise ParameterError(
            f"config.json: weight_block_size is {sides!r}", "longlens reads square FP8 blocks, such as [128, 128]"
        )
    side: int = sides[0]
    return side


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
