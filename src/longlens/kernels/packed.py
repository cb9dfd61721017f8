"""Weights as they lie in the file: quantised blocks or plain numbers, expanded only when and where they are used.

Sources: ggml's block layouts, in C++ (kernels/dequantise.py) or, where the library is not built, through gguf-py's
`quants`; both are bit for bit ggml's `to_float`. Block FP8 as published with DeepSeek-V3 and GLM-5.2,
W[o, i] = float(W8[o, i]) * weight_scale_inv[o // 128, i // 128].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGML_QUANT_SIZES
from gguf.quants import dequantize

from longlens.errors import ShapeError, UnsupportedModelError
from longlens.formats.element_types import ElementType
from longlens.formats.tensors import TensorInfo
from longlens.kernels.dequantise import FAST_TYPES, expand

_PLAIN = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "F8_E8M0": torch.float8_e8m0fnu,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)
# gguf-py names these types but cannot expand them; ggml uses the first two for activations only.
_NOT_EXPANDED = frozenset({"Q8_1", "Q8_K", "Q1_0"})
_BLOCKS = MappingProxyType(
    {kind.name: kind for kind in GGML_QUANT_SIZES if kind.name not in _PLAIN and kind.name not in _NOT_EXPANDED}
)
# Weights expanded at once: an fp32 copy of a large tensor never exists whole, and a piece stays in the cache
# (measured: 2**18 is up to 2.5 times as fast as 2**22).
_SCRATCH_ELEMENTS = 2**18


@dataclass(frozen=True, eq=False)
class BlockScales:
    """Scales of an FP8 matrix, one a tile; they MULTIPLY, although checkpoints call them `weight_scale_inv`.

    Attributes:
        grid: fp32 [ceil(rows / tile_rows), ceil(columns / tile_columns)].
        tile: (rows, columns) that one scale covers; tiles at the lower and right edge may be partial.
        first_row: row of the whole matrix at which this piece starts, so that a piece need not start at a tile.
    """

    grid: torch.Tensor
    tile: tuple[int, int]
    first_row: int = 0


def block_scales(grid: torch.Tensor, shape: tuple[int, ...], block_size: int = 128) -> BlockScales:
    """Fit a scale grid to a matrix; the grid's shape decides: blocks, one a row, or one in all.

    Args:
        grid: [grid rows, grid columns] as stored, or [rows] or [rows, 1] for a scale a row, or one number.
        shape: [rows, columns] of the matrix.
        block_size: the checkpoint's `weight_block_size`.

    Returns:
        The scales; 576 rows in blocks of 128 have five rows of scales, the last for 64 rows.

    Raises:
        ShapeError: the matrix is not one, or no tile leads to a grid of this shape.
    """
    if len(shape) != 2 or grid.ndim > 2:
        raise ShapeError(
            f"block scales of shape {tuple(grid.shape)} cannot belong to a tensor of shape {shape}",
            "block FP8 is for matrices; the checkpoint may be of another format",
        )
    square = grid.to(torch.float32).reshape(-1, 1) if grid.ndim < 2 else grid.to(torch.float32)
    tile_rows = _fit_tile(shape[0], square.shape[0], block_size)
    tile_columns = _fit_tile(shape[1], square.shape[1], block_size)
    if tile_rows is None or tile_columns is None:
        raise ShapeError(
            f"a scale grid of {tuple(grid.shape)} does not cover a matrix of {shape} in blocks of {block_size}",
            "a matrix of R rows needs ceil(R / block) rows of scales; the tensor or its scales are cut short",
        )
    return BlockScales(square, (tile_rows, tile_columns))


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A tensor's bytes, as they lie in the file, and how to expand them.

    Attributes:
        data: uint8 [bytes], a view of the mapped file.
        element_type: how the bytes are to be understood.
        shape: sizes, slowest-varying first.
        scales: of a block FP8 matrix; None for everything else.
        name: of the tensor, for errors.

    Raises:
        UnsupportedModelError: the element type cannot be expanded.
        ShapeError: the bytes are not those of this shape and type, or scales come with a type that has none.
    """

    data: npt.NDArray[np.uint8]
    element_type: ElementType
    shape: tuple[int, ...]
    scales: BlockScales | None = None
    name: str = ""

    def __post_init__(self) -> None:
        kind = self.element_type
        if kind.name not in _PLAIN and kind.name not in _BLOCKS:
            raise UnsupportedModelError(
                f"tensor {self.name!r} has type {kind.name}, which longlens cannot expand",
                f"use a file quantised to one of: {', '.join(sorted(_BLOCKS))}",
            )
        row = self.shape[-1] if self.shape else 1
        if row % kind.block_elements or self.data.shape != (kind.bytes_for(prod(self.shape)),):
            raise ShapeError(
                f"tensor {self.name!r} has {self.data.size} bytes, not those of {kind.name} and shape {self.shape}",
                "the file's header and its data disagree: download it again",
            )
        if self.scales is not None and not kind.name.startswith("F8_"):
            raise ShapeError(f"tensor {self.name!r} is {kind.name} and has block scales", "only FP8 has block scales")

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor, without its scales."""
        return self.data.size

    def rows(self, start: int, stop: int) -> PackedTensor:
        """Take some entries of the leading axis, as a view; nothing else is touched.

        Args:
            start: first entry.
            stop: one past the last.

        Returns:
            The piece, of shape [stop - start, ...]; block scales stay right wherever the piece starts.

        Raises:
            ShapeError: the range lies outside, or cuts a quantisation block of a vector.
        """
        kind = self.element_type
        if not self.shape or not 0 <= start <= stop <= self.shape[0]:
            raise ShapeError(
                f"rows {start} to {stop} of {self.name!r}, of shape {self.shape}", "ask for rows that exist"
            )
        entry = prod(self.shape[1:])
        if start * entry % kind.block_elements or stop * entry % kind.block_elements:
            raise ShapeError(
                f"rows {start} to {stop} of {self.name!r} cut a {kind.name} block of {kind.block_elements}",
                "ask for whole blocks",
            )
        scales = self.scales and replace(self.scales, first_row=self.scales.first_row + start)
        piece = self.data[kind.bytes_for(start * entry) : kind.bytes_for(stop * entry)]
        return PackedTensor(piece, kind, (stop - start, *self.shape[1:]), scales, self.name)

    @cached_property
    def address(self) -> int:
        """Where the first byte lies in memory; valid for as long as this tensor lives."""
        return int(self.data.__array_interface__["data"][0])

    def rows_at(self, entries: Sequence[int]) -> PackedTensor:
        """Gather some entries of the leading axis into a new tensor, in the order given; entries may repeat.

        Raises:
            ShapeError: an entry does not exist, or a row is not whole blocks with scales of its own.
        """
        if self.scales is not None or len(self.shape) < 2:
            raise ShapeError(f"rows of {self.name!r} share scales or blocks", "take a range of rows instead")
        if entries and not 0 <= min(entries) <= max(entries) < self.shape[0]:
            raise ShapeError(
                f"{self.name!r} has {self.shape[0]} rows, others were asked for", "ask for rows that exist"
            )
        table = self.data.reshape(self.shape[0], -1)
        data = table[np.asarray(entries, np.int64)].reshape(-1)
        return PackedTensor(data, self.element_type, (len(entries), *self.shape[1:]), None, self.name)

    def expert(self, expert_id: int) -> PackedTensor:
        """Take one entry of stacked experts [E, ...], as a view without the leading axis.

        Raises:
            ShapeError: there is no such expert.
        """
        piece = self.rows(expert_id, expert_id + 1)
        if piece.scales is not None:
            raise ShapeError(f"{self.name!r} is a block FP8 matrix, not a stack of experts", "take its rows instead")
        return PackedTensor(piece.data, piece.element_type, piece.shape[1:], None, self.name)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """Expand into a new CPU tensor.

        Quantised blocks are computed in fp32 and rounded to `dtype` once, at the end.

        Args:
            dtype: of the result, a floating type.

        Returns:
            A tensor of `shape`, which owns its memory.
        """
        kind, scales = self.element_type, self.scales
        if kind.name in FAST_TYPES and dtype in (torch.float32, torch.bfloat16):
            return expand(self.data, kind, dtype).reshape(self.shape)
        dense = torch.empty(prod(self.shape), dtype=dtype)
        whole = self.shape[-1] if scales is not None else kind.block_elements
        step = max(_SCRATCH_ELEMENTS // max(whole, 1), 1) * max(whole, 1)
        for start in range(0, dense.numel(), step):
            stop = min(start + step, dense.numel())
            weights = _expand(self.data[kind.bytes_for(start) : kind.bytes_for(stop)], kind)
            if scales is not None:
                weights = _scale_rows(weights.reshape(-1, whole), scales, start // whole).reshape(-1)
            dense[start:stop] = weights
        return dense.reshape(self.shape)


def pack(info: TensorInfo, raw: memoryview, scales: BlockScales | None = None) -> PackedTensor:
    """Wrap the raw bytes of a checkpoint's tensor, without copying them.

    Args:
        info: the tensor's record.
        raw: its bytes (`Checkpoint.read`).
        scales: of a block FP8 matrix.

    Raises:
        UnsupportedModelError: the element type cannot be expanded.
        ShapeError: the bytes are not those of this shape and type, or scales come with a type that has none.
    """
    return PackedTensor(np.frombuffer(raw, np.uint8), info.element_type, info.shape, scales, info.name)


def _expand(data: npt.NDArray[np.uint8], kind: ElementType) -> torch.Tensor:
    """Whole blocks as numbers, [weights]: plain types as they are, quantised ones in fp32."""
    plain = _PLAIN.get(kind.name)
    if plain is not None:
        # copied first: torch takes neither read-only memory nor numbers at odd addresses
        owned = torch.empty(data.size, dtype=torch.uint8)
        owned.numpy()[:] = data
        return owned.view(plain)
    if kind.name in FAST_TYPES:
        return expand(data, kind, torch.float32)
    # a damaged scale may be NaN or infinite; ggml lets it pass, and so the numbers show it
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(dequantize(data.reshape(1, -1), _BLOCKS[kind.name]).reshape(-1))


def _scale_rows(weights: torch.Tensor, scales: BlockScales, first_row: int) -> torch.Tensor:
    """Multiply FP8 rows [rows, columns] by their scales, in fp32; `first_row` counts within the piece."""
    num_rows, num_columns = weights.shape
    first = scales.first_row + first_row
    tile_rows = torch.arange(first, first + num_rows) // scales.tile[0]
    scale = scales.grid[tile_rows].repeat_interleave(scales.tile[1], dim=1)[:, :num_columns]
    return weights.to(torch.float32) * scale


def _fit_tile(size: int, num_tiles: int, block_size: int) -> int | None:
    """The tile of which `num_tiles` cover `size`: the configured one, one number, or all of them."""
    if -(-size // block_size) == num_tiles:
        return block_size
    return {1: size, size: 1}.get(num_tiles)
