"""Weights in memory: read from the file when they are first asked for, and kept on the device.

Matrices whose element type the kernels can multiply with stay packed, as views of the mapped file; everything else is
expanded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from longlens.errors import ParameterError
from longlens.formats.checkpoint import Checkpoint
from longlens.formats.tensors import TensorInfo
from longlens.kernels.interface import ExpertBank, Matrix, MlaUpProjections, PackedUpProjections, UpProjections
from longlens.kernels.packed import BlockScales, PackedTensor, block_scales, pack
from longlens.kernels.packed_experts import PackedExperts
from longlens.weights.catalog import Catalog, ParameterSource, StoredTensor
from longlens.weights.expert_store import ResidentExperts
from longlens.weights.names import Arrangement


class ResidentWeights:
    """Gives out the parameters of a catalog as dense tensors of one element type (or fp32 where the model says so)."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        catalog: Catalog,
        device: torch.device,
        dtype: torch.dtype,
        packed_types: frozenset[str] = frozenset(),
    ) -> None:
        """Read from an open checkpoint; nothing is read yet.

        Args:
            checkpoint: where the bytes are.
            catalog: which of them make up which parameter.
            device: where expanded tensors go.
            dtype: of expanded tensors.
            packed_types: element types that `matrix` and `experts` leave packed.
        """
        self.device = device
        self._packed_types = packed_types
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

    def matrix(self, name: str) -> Matrix:
        """One parameter that is only multiplied with or looked up in: packed where its type allows it, else expanded.

        Raises:
            ParameterError, UnsupportedModelError: as `tensor`.
        """
        packed = self._as_it_lies(name)
        return self.tensor(name) if packed is None else packed

    def up_projections(self, prefix: str) -> UpProjections:
        """`kv_b_proj` of one layer, per head: both halves packed, or both expanded."""
        key = self._as_it_lies(f"{prefix}key", Arrangement.TRANSPOSED)
        value = self._as_it_lies(f"{prefix}value")
        if key is None or value is None:
            return MlaUpProjections(self.tensor(f"{prefix}key"), self.tensor(f"{prefix}value"))
        return PackedUpProjections(key, value)

    def experts(self, prefix: str) -> ExpertBank:
        """The routed experts of one layer: all packed, or all expanded."""
        names = [f"{prefix}{name}_proj.weight" for name in ("gate", "up", "down")]
        gate, up, down = (self._as_it_lies(name) for name in names)
        if gate is None or up is None or down is None:
            return ResidentExperts(*(self.tensor(name) for name in names))
        return PackedExperts(gate, up, down)

    def _as_it_lies(self, name: str, arrangement: Arrangement = Arrangement.SAME) -> PackedTensor | None:
        """The parameter's own bytes, if the kernels can use them: one tensor, arranged as they want it."""
        source = self._catalog.sources.get(name)
        if source is None or source.arrangement is not arrangement or source.need.precision == "fp32":
            return None
        info, shape = source.tensors[0].info, source.need.shape
        if arrangement is Arrangement.TRANSPOSED:
            shape = (*shape[:-2], shape[-1], shape[-2])
        if info.element_type.name not in self._packed_types or info.shape != shape:
            return None
        return self._packed(info)

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
