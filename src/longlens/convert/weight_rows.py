"""The rows of a GGUF tensor, read out of a checkpoint of either layout piece by piece.

A tensor of a GGUF file may be one tensor of the source, a stack of them (experts), every head's part of one
(`kv_b_proj`), each of these turned, or rows in another order (llama's rotary pairs). All of them are runs of rows of
some matrix, and no more of it is expanded than a piece needs.

Source: llama.cpp, conversion/base.py, deepseek.py (kv_b_proj in two, keys turned) and llama.py (order of rotary rows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from longlens.errors import ConfigError
from longlens.formats.checkpoint import Checkpoint
from longlens.formats.element_types import SAFETENSORS_TYPES
from longlens.formats.tensors import TensorInfo
from longlens.kernels.packed import BlockScales, PackedTensor, block_scales, pack
from longlens.weights.catalog import ParameterSource, StoredTensor
from longlens.weights.names import Arrangement

RowOrder = Literal["kept", "turned", "paired"]
_FP8_BLOCK = 128


@dataclass(frozen=True, eq=False)
class RowRun:
    """A run of a tensor's rows.

    Attributes:
        matrix: of the source, [rows, columns].
        order: "kept": row for row; "turned": the matrix's columns are the rows; "paired": of the rows of one head,
            those of the first half and those of the second in turn.
    """

    matrix: PackedTensor
    order: RowOrder = "kept"

    @property
    def num_rows(self) -> int:
        """Rows that the run gives."""
        return self.matrix.shape[1 if self.order == "turned" else 0]

    def dense(self, start: int, stop: int) -> Tensor:
        """Expand some of the rows, fp32; a run that is not kept is one head, and is expanded whole."""
        if self.order == "kept":
            return self.matrix.rows(start, stop).dense(torch.float32)
        whole = self.matrix.dense(torch.float32)
        if self.order == "turned":
            return whole.t()[start:stop]
        return whole.view(2, len(whole) // 2, -1).transpose(0, 1).reshape(len(whole), -1)[start:stop]


@dataclass(frozen=True, eq=False)
class WeightRows:
    """Rows of one tensor of the file to be written, fp32 when they are read.

    Attributes:
        runs: one after the other they are the tensor; all have rows of one length.
        source_types: element types of the source's tensors.
    """

    runs: tuple[RowRun, ...]
    source_types: frozenset[str]

    @property
    def num_rows(self) -> int:
        """Rows of all runs."""
        return sum(run.num_rows for run in self.runs)

    def read(self, start: int, stop: int) -> Tensor:
        """Expand rows start to stop: fp32 [stop - start, columns], contiguous."""
        parts = list(self._parts(start, stop))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()

    def raw(self, start: int, stop: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]] | None:
        """The bytes of rows start to stop as they lie in the source; None where they are not one run of it."""
        run = self.runs[0]
        if len(self.runs) != 1 or run.order != "kept" or run.matrix.scales is not None:
            return None
        return run.matrix.rows(start, stop).data

    def _parts(self, start: int, stop: int) -> Iterator[Tensor]:
        first = 0
        for run in self.runs:
            last = first + run.num_rows
            if start < last and first < stop:
                yield run.dense(max(start, first) - first, min(stop, last) - first)
            first = last


def rows_of_tensor(checkpoint: Checkpoint, info: TensorInfo) -> WeightRows:
    """Read a tensor as it is, as rows of its last axis; a vector is one row."""
    return WeightRows((RowRun(_matrix(checkpoint, StoredTensor(info))),), frozenset({info.element_type.name}))


def rows_of_values(values: Tensor) -> WeightRows:
    """Give out a vector that was computed, fp32, as one row."""
    data = values.float().contiguous().view(torch.uint8).numpy()
    matrix = PackedTensor(data, SAFETENSORS_TYPES["F32"], (1, values.numel()))
    return WeightRows((RowRun(matrix),), frozenset({"F32"}))


def rows_of_parameter(checkpoint: Checkpoint, source: ParameterSource, *, paired_heads: int | None) -> WeightRows:
    """Read a parameter of a Hugging Face checkpoint in the order in which a GGUF file has it.

    Args:
        checkpoint: the open checkpoint.
        source: where the parameter lies; of one in another layout, see `rows_of_tensor`.
        paired_heads: heads whose rotary rows GGUF has in pairs; None where it has them as the source does.
    """
    matrices = [_matrix(checkpoint, tensor) for tensor in source.tensors]
    types = frozenset(tensor.info.element_type.name for tensor in source.tensors)
    if source.arrangement in (Arrangement.KEY_ROWS, Arrangement.VALUE_ROWS):
        return WeightRows(tuple(_head_runs(matrices[0], source)), types)
    if paired_heads is not None:
        return WeightRows(tuple(RowRun(head, "paired") for head in _heads(matrices[0], paired_heads)), types)
    return WeightRows(tuple(RowRun(matrix) for matrix in matrices), types)


def _head_runs(matrix: PackedTensor, source: ParameterSource) -> Iterator[RowRun]:
    """Keys are the first rows of each head, and GGUF has them turned; values are its last."""
    heads, rows, _ = source.need.shape
    for head in _heads(matrix, heads):
        if source.arrangement is Arrangement.KEY_ROWS:
            yield RowRun(head.rows(0, rows), "turned")
        else:
            yield RowRun(head.rows(head.shape[0] - rows, head.shape[0]))


def _heads(matrix: PackedTensor, num_heads: int) -> list[PackedTensor]:
    if matrix.shape[0] == 1:  # a bias: one number is a row
        matrix = replace(matrix, shape=(matrix.shape[1], 1))
    rows = matrix.shape[0] // num_heads
    return [matrix.rows(head * rows, (head + 1) * rows) for head in range(num_heads)]


def _matrix(checkpoint: Checkpoint, stored: StoredTensor) -> PackedTensor:
    packed = pack(stored.info, checkpoint.read(stored.info.name), _scales(checkpoint, stored))
    columns = packed.shape[-1] if packed.shape else 1
    return replace(packed, shape=(prod(packed.shape) // columns if columns else 0, columns))


def _scales(checkpoint: Checkpoint, stored: StoredTensor) -> BlockScales | None:
    if stored.scale is None:
        return None
    grid = pack(stored.scale, checkpoint.read(stored.scale.name)).dense(torch.float32)
    return block_scales(grid, stored.info.shape, _block_side(checkpoint.metadata))


def _block_side(config: Mapping[str, object]) -> int:
    quantisation = config.get("quantization_config")
    sides = quantisation.get("weight_block_size", [_FP8_BLOCK] * 2) if isinstance(quantisation, dict) else None
    match sides:
        case None:
            return _FP8_BLOCK
        case [int(rows), int(columns)] if rows == columns >= 1:
            return rows
    raise ConfigError(
        f"config.json: weight_block_size is {sides!r}", "longlens reads square FP8 blocks, such as [128, 128]"
    )
