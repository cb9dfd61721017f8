"""Operations on packed weights in C++ (native/); everything else is plain torch.

Activations become int8 with a scale for every 32 numbers, weights stay as they lie in the file: a product is that of
the two rounded operands, summed in int32 and fp32 (docs/decisions/0014).
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor

from longlens.errors import ShapeError
from longlens.kernels._native import Processor, type_names, type_number
from longlens.kernels.interface import ExpertBank, FeedForward, Matrix
from longlens.kernels.packed import PackedTensor
from longlens.kernels.packed_experts import PackedExperts
from longlens.kernels.reference import ReferenceKernels

PACKED_TYPES = frozenset(type_names())


class NativeKernels(ReferenceKernels):
    """Kernels of the CPU for weights in quantised blocks."""

    # One row takes another order of sums than a tile of rows.
    is_batch_invariant = False

    def __init__(self, num_threads: int, unit_name: str = "") -> None:
        """Start the threads.

        Args:
            num_threads: threads of a product, the caller's included.
            unit_name: an instruction set by name (`_native.unit_names()`); empty takes the best that runs here.

        Raises:
            ValueError: this processor cannot run it.
        """
        super().__init__()
        self._processor = Processor(num_threads, unit_name)
        self._numbers = {name: type_number(name) for name in PACKED_TYPES}
        self.name = f"C++ with {self._processor.unit_name}"

    @property
    def unit_name(self) -> str:
        """The instruction set that products are computed with."""
        return self._processor.unit_name

    def project(
        self, x_TX: Tensor, weight_YX: Matrix, bias_Y: Tensor | None = None, *, is_fine: bool = False
    ) -> Tensor:
        """Multiply rows by a weight stored [out, in].

        Args:
            x_TX: rows.
            weight_YX: a matrix, packed or dense.
            bias_Y: added to every row.
            is_fine: keep 15 bits of packed products' rows instead of 8, at twice the arithmetic: for scores that
                choose positions, where a small error decides.

        Raises:
            ShapeError: rows and weight disagree.
        """
        if not self._has_kernel(weight_YX) or not _is_narrow(x_TX):
            return super().project(x_TX, weight_YX, bias_Y)
        rows_TX = _rows(x_TX, weight_YX.shape[1])
        out_TY = torch.empty(rows_TX.shape[0], weight_YX.shape[0])
        self._processor.multiply(
            self._numbers[weight_YX.element_type.name],
            weight_YX.address,
            weight_YX.shape[0],
            weight_YX.shape[1],
            rows_TX.data_ptr(),
            rows_TX.stride(0),
            rows_TX.shape[0],
            out_TY.data_ptr(),
            out_TY.shape[1],
            fine=is_fine,
        )
        if bias_Y is not None:
            out_TY += bias_Y
        return out_TY.view(*x_TX.shape[:-1], -1).to(x_TX.dtype)

    def feed_forward(self, x_TD: Tensor, weights: FeedForward) -> Tensor:
        """SwiGLU: down(silu(gate x) * up x), in one call where all three matrices are packed."""
        gate, up, down = weights.gate_FD, weights.up_FD, weights.down_DF
        has_bias = weights.gate_bias_F is not None or weights.up_bias_F is not None or weights.down_bias_D is not None
        if has_bias or not _is_narrow(x_TD):
            return super().feed_forward(x_TD, weights)
        if not (self._has_kernel(gate) and self._has_kernel(up) and self._has_kernel(down)):
            return super().feed_forward(x_TD, weights)
        rows_TD = _rows(x_TD, gate.shape[1]).contiguous()
        out_TD = torch.empty_like(rows_TD)
        self._processor.feed_forward(
            self._types(gate, up, down),
            (gate.address, up.address, down.address),
            gate.shape[1],
            gate.shape[0],
            rows_TD.data_ptr(),
            rows_TD.shape[0],
            out_TD.data_ptr(),
        )
        return out_TD.to(x_TD.dtype)

    def moe(self, x_TD: Tensor, expert_ids_TA: Tensor, expert_weights_TA: Tensor, bank: ExpertBank) -> Tensor:
        """Weighted sum of each token's chosen experts, in ascending order of expert id; each expert is read once.

        Raises:
            IndexError: a chosen expert does not exist.
        """
        if not isinstance(bank, PackedExperts) or not _is_narrow(x_TD):
            return super().moe(x_TD, expert_ids_TA, expert_weights_TA, bank)
        gate, up, down = bank.gate_EFD, bank.up_EFD, bank.down_EDF
        if not (self._has_kernel(gate) and self._has_kernel(up) and self._has_kernel(down)):
            return super().moe(x_TD, expert_ids_TA, expert_weights_TA, bank)
        rows_TD = _rows(x_TD, gate.shape[2]).contiguous()
        ids_TA = expert_ids_TA.to(torch.int64).contiguous()
        weights_TA = expert_weights_TA.to(torch.float32).contiguous()
        out_TD = torch.empty_like(rows_TD)
        addresses = bank.addresses
        start, step = addresses.__array_interface__["data"][0], addresses.strides[0]
        self._processor.experts(
            self._types(gate, up, down),
            (start, start + step, start + 2 * step),
            bank.num_experts,
            gate.shape[2],
            gate.shape[1],
            rows_TD.data_ptr(),
            rows_TD.shape[0],
            ids_TA.data_ptr(),
            weights_TA.data_ptr(),
            ids_TA.shape[1],
            out_TD.data_ptr(),
        )
        return out_TD.to(x_TD.dtype)

    def _has_kernel(self, weight: Matrix) -> TypeGuard[PackedTensor]:
        return isinstance(weight, PackedTensor) and weight.element_type.name in self._numbers

    def _types(self, *weights: PackedTensor) -> tuple[int, int, int]:
        gate, up, down = (self._numbers[weight.element_type.name] for weight in weights)
        return gate, up, down


def _is_narrow(x: Tensor) -> bool:
    """Whether fp32 holds the numbers; fp64 is for those who want to see the last digits."""
    return x.dtype != torch.float64


def _rows(x: Tensor, width: int) -> Tensor:
    """Rows in fp32, each without gaps."""
    if x.shape[-1] != width:
        raise ShapeError(
            f"rows of width {x.shape[-1]} meet a matrix of width {width}", "pass rows of the matrix's width"
        )
    rows = x.reshape(-1, width).to(torch.float32)
    return rows if rows.stride(-1) == 1 else rows.contiguous()
