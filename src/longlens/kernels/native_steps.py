"""A decode step's operations in C++: one call for what lies between two looks at the cache.

Each layer's weights are given to the library once; a call then passes addresses of activations only. Rows are few
(`FEW_TOKENS`), fp32, and without gaps; everything else goes through the smaller operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from longlens.kernels._native import (
    FEW_TOKENS,
    IndexProjections,
    MlaAttend,
    MlaProjections,
    Processor,
    Router,
    gqa_attend,
    rms_norm,
)
from longlens.kernels.interface import (
    CachedRows,
    GqaQuery,
    IndexInputs,
    IndexInputWeights,
    Matrix,
    MlaInputs,
    MlaInputWeights,
    MlaQuery,
    PackedUpProjections,
)
from longlens.kernels.packed import PackedTensor
from longlens.kernels.rotary import Angles
from longlens.kernels.routing import RouterWeights

_ELEMENTS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_Prepared = TypeVar("_Prepared")


class NativeSteps:
    """Prepared calls of the library, one for each record of weights that was met.

    Every method returns None where the operation does not fit, so that the caller composes it of smaller ones.
    """

    def __init__(self, processor: Processor, type_numbers: dict[str, int]) -> None:
        """Compute with a processor; `type_numbers` are the element types that it multiplies with."""
        self._processor = processor
        self._numbers = type_numbers
        # By the record's identity; the record is kept, so that no other can take its place.
        self._prepared: dict[int, tuple[object, object]] = {}

    def mla_inputs(self, hidden_TD: Tensor, weights: MlaInputWeights, angles: Angles) -> MlaInputs | None:
        """`Kernels.mla_inputs` for a few tokens."""
        call = self._call(weights, self._prepare_mla) if _fits(hidden_TD) else None
        if call is None:
            return None
        num_tokens = hidden_TD.shape[0]
        query_size = weights.q_b_proj.shape[0] // weights.num_heads
        latent_TQ = torch.empty(num_tokens, weights.q_a_proj.shape[0])
        query_THX = torch.empty(num_tokens, weights.num_heads, query_size)
        rows_TX = torch.empty(num_tokens, weights.kv_a_proj_with_mqa.shape[0])
        call.run(
            hidden_TD.data_ptr(),
            num_tokens,
            _rotation(angles),
            latent_TQ.data_ptr(),
            query_THX.data_ptr(),
            rows_TX.data_ptr(),
        )
        nope_THN, rope_THR = query_THX.tensor_split((weights.nope_dim,), -1)
        return MlaInputs(latent_TQ, nope_THN, rope_THR, rows_TX)

    def index_inputs(
        self, hidden_TD: Tensor, latent_TQ: Tensor, weights: IndexInputWeights, angles: Angles
    ) -> IndexInputs | None:
        """`Kernels.index_inputs` for a few tokens."""
        fits = _fits(hidden_TD) and _fits(latent_TQ)
        call = self._call(weights, self._prepare_index) if fits else None
        if call is None:
            return None
        num_tokens, width = hidden_TD.shape[0], weights.k_norm_weight.shape[0]
        query_TJI = torch.empty(num_tokens, weights.num_heads, width)
        key_TI = torch.empty(num_tokens, width)
        head_weights_TJ = torch.empty(num_tokens, weights.num_heads)
        call.run(
            hidden_TD.data_ptr(),
            latent_TQ.data_ptr(),
            num_tokens,
            _rotation(angles),
            query_TJI.data_ptr(),
            key_TI.data_ptr(),
            head_weights_TJ.data_ptr(),
        )
        return IndexInputs(query_TJI, key_TI, head_weights_TJ)

    def mla_attend(
        self, query: MlaQuery, latents: CachedRows, up: PackedUpProjections, positions_TK: Tensor | None, scale: float
    ) -> Tensor | None:
        """Attention in absorbed form for a few tokens: to the given positions, or to all visible ones."""
        nope_THN, rope_THR = query.nope_THN, query.rope_THR
        num_tokens, heads = nope_THN.shape[:2]
        strides = nope_THN.stride()
        if num_tokens > FEW_TOKENS or nope_THN.dtype != torch.float32 or strides != rope_THR.stride():
            return None
        call = self._call(up, self._prepare_attention)
        if call is None or latents.pool_PX.dtype not in _ELEMENTS or strides[-1] != 1:
            return None
        positions = (0, 0) if positions_TK is None else (positions_TK.data_ptr(), positions_TK.shape[1])
        out_THV = torch.empty(num_tokens, heads, up.value_HVC.shape[1])
        call.run(
            (nope_THN.data_ptr(), rope_THR.data_ptr(), strides[0], strides[1]),
            num_tokens,
            rope_THR.shape[2],
            _cached(latents),
            (*positions, query.first_position),
            scale,
            out_THV.data_ptr(),
        )
        return out_THV

    def gqa_attend(self, query: GqaQuery, keys: CachedRows, values: CachedRows, scale: float) -> Tensor | None:
        """`Kernels.gqa_attend` for a few tokens."""
        query_THN = query.query_THN
        if not (_fits(query_THN) and keys.pool_PX.dtype in _ELEMENTS and values.pool_PX.dtype in _ELEMENTS):
            return None
        num_tokens, heads, width = query_THN.shape
        out_THN = torch.empty_like(query_THN)
        gqa_attend(
            self._processor,
            query_THN.data_ptr(),
            (num_tokens, heads, keys.pool_PX.shape[1] // width, width),
            scale,
            _cached(keys),
            _cached(values),
            query.first_position,
            out_THN.data_ptr(),
        )
        return out_THN

    def route(self, x_TD: Tensor, router: RouterWeights) -> tuple[Tensor, Tensor] | None:
        """`Kernels.route` for a few tokens."""
        call = self._call(router, self._prepare_router) if _fits(x_TD) else None
        if call is None:
            return None
        ids_TA = torch.empty(x_TD.shape[0], router.num_chosen, dtype=torch.int64)
        weights_TA = torch.empty(x_TD.shape[0], router.num_chosen)
        call.run(x_TD.data_ptr(), x_TD.shape[0], ids_TA.data_ptr(), weights_TA.data_ptr())
        return ids_TA, weights_TA

    def rms_norm(self, x_TX: Tensor, weight_X: Tensor, eps: float) -> Tensor | None:
        """`Kernels.rms_norm` of fp32 rows, however many."""
        if x_TX.dim() != 2 or x_TX.dtype != torch.float32 or x_TX.stride(1) != 1 or not _is_plain(weight_X):
            return None
        num_rows, width = x_TX.shape
        out_TX = torch.empty(num_rows, width)
        rms_norm(
            self._processor,
            x_TX.data_ptr(),
            x_TX.stride(0),
            weight_X.data_ptr(),
            eps,
            num_rows,
            width,
            out_TX.data_ptr(),
        )
        return out_TX

    def _call(self, record: object, prepare: Callable[..., _Prepared | None]) -> _Prepared | None:
        found = self._prepared.get(id(record))
        if found is None:
            found = self._prepared[id(record)] = (record, prepare(record))
        prepared: _Prepared | None = found[1]  # type: ignore[assignment]
        return prepared

    def _matrix(self, weight: Matrix) -> tuple[int, int, int, int] | None:
        """Type number, address, rows and width; None where the library has no kernel for it."""
        if not isinstance(weight, PackedTensor) or weight.element_type.name not in self._numbers:
            return None
        width = weight.shape[-1]
        rows = weight.num_bytes // weight.element_type.bytes_for(width)
        return self._numbers[weight.element_type.name], weight.address, rows, width

    def _prepare_mla(self, weights: MlaInputWeights) -> MlaProjections | None:
        matrices = [self._matrix(w) for w in (weights.q_a_proj, weights.q_b_proj, weights.kv_a_proj_with_mqa)]
        q_a, q_b, kv_a = matrices
        norms = (weights.q_a_layernorm, weights.kv_a_layernorm)
        if q_a is None or q_b is None or kv_a is None or not all(map(_is_plain, norms)):
            return None
        rank = weights.kv_a_layernorm.shape[0]
        return MlaProjections(
            self._processor,
            q_a,
            q_b,
            kv_a,
            (norms[0].data_ptr(), norms[1].data_ptr(), weights.eps),
            (weights.num_heads, weights.nope_dim, kv_a[2] - rank, rank),
            (weights.is_selecting, weights.is_rope_interleaved),
        )

    def _prepare_index(self, weights: IndexInputWeights) -> IndexProjections | None:
        q_b, k = self._matrix(weights.wq_b), self._matrix(weights.wk)
        others = (weights.k_norm_weight, weights.k_norm_bias, weights.weights_proj)
        if q_b is None or k is None or not all(map(_is_plain, others)):
            return None
        return IndexProjections(
            self._processor,
            q_b,
            k,
            (others[0].data_ptr(), others[1].data_ptr(), weights.eps, others[2].data_ptr()),
            (weights.num_heads, k[2], weights.rope_dim),
            weights.is_rope_interleaved,
        )

    def _prepare_attention(self, up: PackedUpProjections) -> MlaAttend | None:
        key, value = self._matrix(up.key_HCN), self._matrix(up.value_HVC)
        if key is None or value is None:
            return None
        heads, rank, nope = up.key_HCN.shape
        return MlaAttend(self._processor, key, value, (heads, nope, rank, up.value_HVC.shape[1]))

    def _prepare_router(self, router: RouterWeights) -> Router | None:
        if router.num_groups > 1 or not _is_plain(router.weight_ED) or not _is_plain(router.bias_E):
            return None
        experts, hidden = router.weight_ED.shape
        return Router(
            self._processor,
            router.weight_ED.data_ptr(),
            router.bias_E.data_ptr(),
            (experts, hidden, router.num_chosen),
            router.is_normalised,
            router.factor,
        )


def _is_plain(x: Tensor) -> bool:
    """Fp32 on the CPU without gaps: what an address alone describes."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous()


def _fits(x: Tensor) -> bool:
    return x.shape[0] <= FEW_TOKENS and _is_plain(x)


def _rotation(angles: Angles) -> tuple[int, int, int]:
    return angles.cos_TR.data_ptr(), angles.sin_TR.data_ptr(), angles.cos_TR.shape[1]


def _cached(rows: CachedRows) -> tuple[int, int, int, int]:
    pool_PX = rows.pool_PX
    row_bytes = pool_PX.stride(0) * pool_PX.element_size()
    return pool_PX.data_ptr(), _ELEMENTS[pool_PX.dtype], row_bytes, rows.slots_S.data_ptr()
