"""Sizes of published files whose mixture of types only their makers know.

Unsloth's dynamic quantisations choose types by an importance matrix, tensor by tensor; what is known of them is what
their files take. All of them hold an indexer in every layer, shared ones included (0.5 B weights that nobody reads).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_UNSLOTH = "https://huggingface.co/unsloth/GLM-5.2-GGUF, sizes of all shards as the hub listed them on 2026-08-15"
_FP8 = "https://huggingface.co/zai-org/GLM-5.2-FP8, 755.6 GB in 141 shards"


@dataclass(frozen=True)
class PublishedSize:
    """What the files of one quantisation take.

    Attributes:
        num_bytes: all shards, headers included.
        source: where it is stated.
        is_exact: false if the source states rounded GB.
    """

    num_bytes: int
    source: str
    is_exact: bool = True


_UNSLOTH_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "ud-iq1_s": 216_715_360_960,
        "ud-iq1_m": 228_492_966_624,
        "ud-iq2_xxs": 238_458_632_928,
        "ud-iq2_m": 238_577_580_768,
        "ud-q2_k_xl": 253_878_401_856,
        "ud-iq3_xxs": 281_688_431_424,
        "ud-iq3_s": 308_641_029_024,
        "ud-q3_k_m": 342_735_510_656,
        "ud-q3_k_xl": 342_965_972_096,
        "ud-iq4_xs": 365_313_223_776,
        "ud-iq4_nl": 372_661_644_384,
        "ud-q4_k_s": 436_431_842_432,
        "ud-q4_k_m": 465_825_525_088,
        "ud-q4_k_xl": 467_289_111_904,
        "ud-q5_k_s": 527_259_270_528,
        "ud-q5_k_m": 560_830_479_904,
        "ud-q5_k_xl": 562_466_258_496,
        "ud-q6_k": 625_858_969_376,
        "ud-q6_k_xl": 684_369_510_240,
        "q8_0": 801_357_672_256,
        "ud-q8_k_xl": 819_700_080_736,
        "bf16-gguf": 1_507_988_023_008,
    }
)

PUBLISHED_SIZES: Mapping[str, Mapping[str, PublishedSize]] = MappingProxyType(
    {
        "glm-5.2": MappingProxyType(
            {name: PublishedSize(size, _UNSLOTH) for name, size in _UNSLOTH_BYTES.items()}
            | {"fp8": PublishedSize(755_600_000_000, _FP8, is_exact=False)}
        )
    }
)


def published_bytes(model: str, file_type: str) -> int | None:
    """Bytes of a model's published files; None where no size is known.

    Args:
        model: a preset's name.
        file_type: in lower case, e.g. "ud-iq2_m".
    """
    size = PUBLISHED_SIZES.get(model, {}).get(file_type)
    return None if size is None else size.num_bytes
