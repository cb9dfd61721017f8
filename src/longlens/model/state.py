"""What a model must remember per token, and the port through which it reads and writes it.

`CacheSpec` is drawn once: saving, moving, forking and dropping walk it, so that no tensor can be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from longlens.model.config import GqaConfig, ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

    from longlens.kernels.interface import CachedRows
    from longlens.model.trace import StepTrace

CacheKind = Literal["latent", "index_key", "key", "value"]
CacheElement = Literal["bf16", "f16", "f32"]
ELEMENT_BYTES: dict[CacheElement, int] = {"bf16": 2, "f16": 2, "f32": 4}


@dataclass(frozen=True)
class CacheTensor:
    """One tensor that must survive, a row a token.

    Attributes:
        kind: "latent" is [c after norm | k_rope after rotation]; "index_key" is the indexer's key after rotation;
            "key" and "value" are those of grouped-query attention, all heads of a token side by side.
        layer: the decoder layer it belongs to.
        width: values a row.
        element: how a value is stored.
        group: number of the full layer that leads this layer (a full layer and the shared layers after it form a
            group); the layer itself where nothing is shared.
    """

    kind: CacheKind
    layer: int
    width: int
    element: CacheElement
    group: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one token's row."""
        return self.width * ELEMENT_BYTES[self.element]


@dataclass(frozen=True)
class CacheSpec:
    """Every cached tensor of a model, and how many tokens a page holds."""

    tensors: tuple[CacheTensor, ...]
    page_tokens: int = 64

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers."""
        return sum(tensor.row_bytes for tensor in self.tensors)

    def bytes_of(self, kind: CacheKind) -> int:
        """Bytes that one token takes in tensors of one kind."""
        return sum(tensor.row_bytes for tensor in self.tensors if tensor.kind == kind)


def cache_spec_of(config: ModelConfig, element: CacheElement, *, page_tokens: int = 64) -> CacheSpec:
    """List what a model caches: latents on every layer, index keys on full layers only; or keys and values.

    Source: DeepSeek-V3.2's and GLM-5.2's cache; GLM-5.2 in bf16 takes 95,232 bytes a token.
    """
    tensors: list[CacheTensor] = []
    for layer in range(config.num_hidden_layers):
        if isinstance(config.attention, GqaConfig):
            width = config.attention.num_key_value_heads * config.attention.head_dim
            tensors += [CacheTensor(kind, layer, width, element, layer) for kind in ("key", "value")]
            continue
        leader = layer if config.indexer is None else config.indexer.leader_of(layer)
        tensors.append(CacheTensor("latent", layer, config.attention.latent_width, element, leader))
        if config.indexer is not None and leader == layer:
            tensors.append(CacheTensor("index_key", layer, config.indexer.index_head_dim, element, leader))
    return CacheSpec(tuple(tensors), page_tokens)


class SequenceState(Protocol):
    """One sequence's cache, as a model sees it during a step.

    The engine reserves room before the step, so writes cannot fail half-way; the step's own tokens become readable
    layer by layer as they are written.
    """

    def write(self, kind: CacheKind, layer: int, rows_TX: Tensor, first_position: int) -> None:
        """Store rows for positions first_position.. of one cached tensor."""
        ...

    def rows(self, kind: CacheKind, layer: int, num_positions: int) -> CachedRows:
        """Read access to positions 0..num_positions-1 of one cached tensor, without copying."""
        ...


@dataclass(frozen=True)
class SequenceChunk:
    """The tokens of one sequence that a step computes: a piece of a prompt, or one token of decode.

    Attributes:
        token_ids: at least one token id.
        first_position: position of the first of them; positions before it are already in `state`.
        state: the sequence's cache, with room reserved for these tokens.
    """

    token_ids: Sequence[int]
    first_position: int
    state: SequenceState


def never_cancelled() -> bool:
    """Answer for callers that do not stop a step half-way."""
    return False


class CausalModel(Protocol):
    """What the engine needs from a model."""

    @property
    def cache_spec(self) -> CacheSpec:
        """Every tensor that the model caches."""
        ...

    @property
    def vocab_size(self) -> int:
        """Rows of the logits' last axis."""
        ...

    def forward(
        self,
        chunks: Sequence[SequenceChunk],
        *,
        is_cancelled: Callable[[], bool] = never_cancelled,
        trace: StepTrace | None = None,
    ) -> Tensor:
        """Run one step over the chunks of several sequences.

        Args:
            chunks: one per sequence; their tokens are packed in this order.
            is_cancelled: looked at between layers.
            trace: sees, and may replace, selections and expert choices.

        Returns:
            hidden_TD after the final norm, T = all tokens of all chunks.

        Raises:
            CancelledError: `is_cancelled` answered true; rows of this step in the caches are to be dropped.
        """
        ...

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """Logits in fp32 for some rows of `forward`'s result, [T, vocab_size]."""
        ...
