"""Operations on packed weights in C++ (native/); everything else is plain torch.

Activations become int8 with a scale for every 32 numbers, weights stay as they lie in the file: a product is that of
the two rounded operands, summed in int32 and fp32 (docs/decisions/0014). Weights of types without an int8 kernel are
expanded to bf16 a few rows at a time and multiplied with activations in bf16.
"""

from __future__ import annotations

from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor

from longlens.errors import ShapeError
from longlens.kernels._native import Processor, type_names, type_number
from longlens.kernels.dequantise import FAST_TYPES, KIND_NUMBERS, dequantiser
from longlens.kernels.interface import (
    AttentionForm,
    CachedRows,
    ExpertBank,
    FeedForward,
    GqaQuery,
    IndexInputs,
    IndexInputWeights,
    Matrix,
    MlaInputs,
    MlaInputWeights,
    MlaQuery,
    PackedUpProjections,
    UpProjections,
)
from longlens.kernels.native_steps import NativeSteps
from longlens.kernels.packed import PackedTensor
from longlens.kernels.packed_experts import PackedExperts
from longlens.kernels.reference import ReferenceKernels
from longlens.kernels.rotary import Angles
from longlens.kernels.routing import RouterWeights

PACKED_TYPES = frozenset(type_names()) | FAST_TYPES
# Tokens whose queries are absorbed at once, in prefill.
_ABSORBED_TOKENS = 128


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
        self._numbers = {name: type_number(name) for name in type_names()}
        self._steps = NativeSteps(self._processor, self._numbers)
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
        if not isinstance(weight_YX, PackedTensor) or not _is_narrow(x_TX):
            return super().project(x_TX, weight_YX, bias_Y, is_fine=is_fine)
        if self._has_kernel(weight_YX):
            number = self._numbers[weight_YX.element_type.name]
            multiply = partial(self._processor.multiply, number, fine=is_fine)
        elif weight_YX.element_type.name in FAST_TYPES:
            if is_fine:
                coarse_TX = x_TX.to(torch.bfloat16).to(torch.float32)
                return self.project(coarse_TX, weight_YX, bias_Y) + self.project(x_TX - coarse_TX, weight_YX)
            kind = KIND_NUMBERS[weight_YX.element_type.name]
            multiply = partial(dequantiser().multiply, self._processor, kind)
        else:
            return super().project(x_TX, weight_YX, bias_Y, is_fine=is_fine)
        rows_TX = _rows(x_TX, weight_YX.shape[1])
        out_TY = torch.empty(rows_TX.shape[0], weight_YX.shape[0])
        multiply(
            weight_YX.address,
            weight_YX.shape[0],
            weight_YX.shape[1],
            rows_TX.data_ptr(),
            rows_TX.stride(0),
            rows_TX.shape[0],
            out_TY.data_ptr(),
            out_TY.shape[1],
        )
        if bias_Y is not None:
            out_TY += bias_Y
        return out_TY.view(*x_TX.shape[:-1], -1).to(x_TX.dtype)

    def rms_norm(self, x_TX: Tensor, weight_X: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm; fp32 rows in one pass."""
        normed_TX = self._steps.rms_norm(x_TX, weight_X, eps)
        return super().rms_norm(x_TX, weight_X, eps) if normed_TX is None else normed_TX

    def mla_inputs(self, hidden_TD: Tensor, weights: MlaInputWeights, angles: Angles) -> MlaInputs:
        """Project, normalise and rotate; in one call for a few tokens."""
        inputs = self._steps.mla_inputs(hidden_TD, weights, angles)
        return super().mla_inputs(hidden_TD, weights, angles) if inputs is None else inputs

    def index_inputs(
        self, hidden_TD: Tensor, latent_TQ: Tensor, weights: IndexInputWeights, angles: Angles
    ) -> IndexInputs:
        """Project, normalise and rotate; in one call for a few tokens."""
        inputs = self._steps.index_inputs(hidden_TD, latent_TQ, weights, angles)
        return super().index_inputs(hidden_TD, latent_TQ, weights, angles) if inputs is None else inputs

    def sparse_attend(
        self, query: MlaQuery, latents: CachedRows, up: UpProjections, positions_TK: Tensor, *, scale: float
    ) -> Tensor:
        """Attend to the selected positions only; in one call for a few tokens."""
        out_THV = None
        if isinstance(up, PackedUpProjections):
            out_THV = self._steps.mla_attend(query, latents, up, positions_TK, scale)
        return super().sparse_attend(query, latents, up, positions_TK, scale=scale) if out_THV is None else out_THV

    def dense_attend(
        self,
        query: MlaQuery,
        latents: CachedRows,
        up: UpProjections,
        *,
        scale: float,
        form: AttentionForm,
        positions_TK: Tensor | None = None,
    ) -> Tensor:
        """Attend to every visible position or to those selected; in one call, and absorbed, for a few tokens."""
        out_THV = None
        if isinstance(up, PackedUpProjections) and form == "absorbed":
            out_THV = self._steps.mla_attend(query, latents, up, positions_TK, scale)
        if out_THV is None:
            out_THV = super().dense_attend(query, latents, up, scale=scale, form=form, positions_TK=positions_TK)
        return out_THV

    def _ready(self, up: UpProjections) -> UpProjections:
        return up if self._can_multiply(up) else super()._ready(up)

    def _can_multiply(self, up: UpProjections) -> TypeGuard[PackedUpProjections]:
        return isinstance(up, PackedUpProjections) and self._has_kernel(up.key_HCN) and self._has_kernel(up.value_HVC)

    def _attend_absorbed(
        self, query: MlaQuery, rows_SX: Tensor, up: UpProjections, scale: float, positions_TK: Tensor | None
    ) -> Tensor:
        """Absorb more tokens at once than attention takes: products of few rows would unpack weights too often."""
        if not isinstance(up, PackedUpProjections):
            return super()._attend_absorbed(query, rows_SX, up, scale, positions_TK)
        num_tokens, heads, _ = query.nope_THN.shape
        out_THV = torch.empty(num_tokens, heads, up.value_HVC.shape[1])
        values_SC = rows_SX[:, : up.value_HVC.shape[2]]
        for start in range(0, num_tokens, _ABSORBED_TOKENS):
            part = query.tile(start, min(start + _ABSORBED_TOKENS, num_tokens))
            positions_tK = None if positions_TK is None else positions_TK[start : start + _ABSORBED_TOKENS]
            query_HtX = self._absorb(part, up).transpose(0, 1)
            out_HtC = self._attend(query_HtX, rows_SX, values_SC, part.first_position, scale, positions_tK)
            out_THV[start : start + _ABSORBED_TOKENS] = self._raise_to_values(out_HtC.transpose(0, 1), up)
        return out_THV

    def _absorb(self, query: MlaQuery, up: UpProjections) -> Tensor:
        if not isinstance(up, PackedUpProjections):
            return super()._absorb(query, up)
        num_tokens, heads, _ = query.nope_THN.shape
        rank = up.value_HVC.shape[2]
        # Heads lie apart, so that each of them is one matrix for attention.
        query_THX = torch.empty(heads, num_tokens, rank + query.rope_THR.shape[2]).transpose(0, 1)
        query_THX[..., rank:] = query.rope_THR
        self._multiply_heads(query.nope_THN.float(), up.key_HCN, query_THX)
        return query_THX

    def _raise_to_values(self, out_THC: Tensor, up: UpProjections) -> Tensor:
        if not isinstance(up, PackedUpProjections):
            return super()._raise_to_values(out_THC, up)
        out_THV = torch.empty(*out_THC.shape[:2], up.value_HVC.shape[1])
        self._multiply_heads(out_THC, up.value_HVC, out_THV)
        return out_THV

    def _multiply_heads(self, x_THX: Tensor, weight_HYX: PackedTensor, out_THY: Tensor) -> None:
        """Multiply each head's rows by that head's matrix, into the first columns of `out_THY`."""
        if x_THX.stride(2) != 1:
            x_THX = x_THX.contiguous()
        heads, rows, width = weight_HYX.shape
        matrix_bytes = weight_HYX.num_bytes // heads
        for head in range(heads):
            self._processor.multiply(
                self._numbers[weight_HYX.element_type.name],
                weight_HYX.address + head * matrix_bytes,
                rows,
                width,
                x_THX.data_ptr() + 4 * head * x_THX.stride(1),
                x_THX.stride(0),
                x_THX.shape[0],
                out_THY.data_ptr() + 4 * head * out_THY.stride(1),
                out_THY.stride(0),
                fine=False,
            )

    def gqa_attend(self, query: GqaQuery, keys: CachedRows, values: CachedRows, *, scale: float) -> Tensor:
        """Causal grouped-query attention; in one call for a few tokens."""
        out_THN = self._steps.gqa_attend(query, keys, values, scale)
        return super().gqa_attend(query, keys, values, scale=scale) if out_THN is None else out_THN

    def route(self, x_TD: Tensor, router: RouterWeights) -> tuple[Tensor, Tensor]:
        """Choose experts and weigh them; in one call for a few tokens."""
        routed = self._steps.route(x_TD, router)
        return super().route(x_TD, router) if routed is None else routed

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
