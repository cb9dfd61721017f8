"""Random weights as the bytes of any GGUF element type that has a decoder: valid blocks, sane scales, a wanted spread.

Plain types and Q8_0 are rounded from normal numbers. Every other type is random bits in its block layout with the
scales set, since a quantiser for each would be much slower and say nothing about speed. The spread that a layout's
random bits have is not derived but measured, once a type, by decoding a few blocks.

Source: ggml's block layouts (ggml-common.h); gguf-py, quants.py, which decodes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from longlens.convert.quantise import WRITABLE_TYPES, Bytes, encode
from longlens.errors import UnsupportedModelError
from longlens.formats.element_types import GGML_TYPES, ElementType

# Weights made at once, so that a large tensor never exists in fp32 as a whole.
_PIECE_WEIGHTS = 2**22
_TRIAL_BLOCKS = 4096
# Scales of neighbouring blocks differ by up to this share: equal ones would be kinder to a kernel than real files are.
_JITTER = 0.25

_Scales = NDArray[np.float64]
_SetScales = Callable[[Bytes, _Scales], None]


@dataclass(frozen=True)
class BlockRecipe:
    """How random bits become a valid block.

    Attributes:
        set_scales: writes one scale a block into blocks [n, block_bytes].
        tidy: changes bits that must not be random, before the scales are set.
    """

    set_scales: _SetScales
    tidy: Callable[[Bytes], None] | None = None


def random_weights(num_weights: int, element_type: ElementType, spread: float, generator: np.random.Generator) -> Bytes:
    """Make random weights as they lie in a file.

    Args:
        num_weights: whole blocks of them.
        element_type: any of `RANDOM_TYPES`.
        spread: standard deviation that the decoded weights are to have; their mean is near 0.
        generator: the source of all randomness.

    Returns:
        uint8 [bytes].

    Raises:
        UnsupportedModelError: an element type without a decoder.
    """
    if element_type.name not in RANDOM_TYPES:
        raise UnsupportedModelError(
            f"random weights cannot be made as {element_type.name}", f"choose one of: {', '.join(RANDOM_TYPES)}"
        )
    data = np.empty(element_type.bytes_for(num_weights), np.uint8)
    for start in range(0, num_weights, _PIECE_WEIGHTS):
        stop = min(start + _PIECE_WEIGHTS, num_weights)
        piece = data[element_type.bytes_for(start) : element_type.bytes_for(stop)]
        piece[:] = _piece(stop - start, element_type, spread, generator)
    return data


def _piece(count: int, element_type: ElementType, spread: float, generator: np.random.Generator) -> Bytes:
    if element_type.name in WRITABLE_TYPES:
        values = generator.standard_normal(count, np.float32) * np.float32(spread)
        return encode(values, element_type.name)
    recipe = _RECIPES[element_type.name]
    num_blocks = count // element_type.block_elements
    blocks = _random_bits(num_blocks, element_type, recipe, generator)
    jitter = generator.uniform(1 - _JITTER, 1 + _JITTER, num_blocks) / math.sqrt(1 + _JITTER**2 / 3)
    recipe.set_scales(blocks, spread / _spread_of_bits(element_type.name) * jitter)
    return blocks.reshape(-1)


def _random_bits(
    num_blocks: int, element_type: ElementType, recipe: BlockRecipe, generator: np.random.Generator
) -> Bytes:
    blocks = generator.integers(0, 256, (num_blocks, element_type.block_bytes), np.uint8)
    if recipe.tidy is not None:
        recipe.tidy(blocks)
    return blocks


@cache
def _spread_of_bits(name: str) -> float:
    """Standard deviation of decoded random blocks whose scale is 1."""
    element_type = next(kind for kind in GGML_TYPES.values() if kind.name == name)
    recipe = _RECIPES[name]
    blocks = _random_bits(_TRIAL_BLOCKS, element_type, recipe, np.random.default_rng(0))
    recipe.set_scales(blocks, np.ones(_TRIAL_BLOCKS))
    return float(dequantize(blocks, GGMLQuantizationType[name]).std())


def _half_at(place: int) -> _SetScales:
    """A scale in fp16 at a byte of the block."""

    def set_scales(blocks: Bytes, scales: _Scales) -> None:
        blocks[:, place : place + 2] = scales.astype("<f2").view(np.uint8).reshape(-1, 2)

    return set_scales


def _halves_at(place: int, minimum_place: int, middle: float) -> _SetScales:
    """A scale and a minimum in fp16; the minimum moves the middle of the levels to 0."""
    set_scale, set_minimum = _half_at(place), _half_at(minimum_place)

    def set_scales(blocks: Bytes, scales: _Scales) -> None:
        set_scale(blocks, scales)
        set_minimum(blocks, scales * middle)

    return set_scales


def _half_in_nibbles(blocks: Bytes, scales: _Scales) -> None:
    """IQ1_M: the fp16 scale lies in the top four bits of the block's last four 16-bit words."""
    bits = scales.astype("<f2").view(np.uint16)
    for word in range(4):
        place = 48 + 2 * word + 1
        nibble = ((bits >> np.uint16(4 * word)) & np.uint16(0xF)).astype(np.uint8)
        blocks[:, place] = (blocks[:, place] & 0x0F) | (nibble << 4)


def _exponent(blocks: Bytes, scales: _Scales) -> None:
    """MXFP4: a power of two a block."""
    powers: _Scales = np.exp2(np.arange(-127.0, 127.0))
    blocks[:, :1] = 1 + _codes_between(powers, scales[:, None], blocks[:, :1])


def _small_floats(blocks: Bytes, scales: _Scales) -> None:
    """NVFP4: four scales a block, unsigned floats of four exponent and three mantissa bits."""
    codes = np.arange(0x7F)
    exponent, mantissa = codes >> 3, codes & 7
    values = 0.5 * np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    blocks[:, :4] = _codes_between(values, scales[:, None], blocks[:, :4])


def _codes_between(values: _Scales, wanted: _Scales, chance: Bytes) -> Bytes:
    """Numbers of the rising values next to the wanted ones, so drawn that the mean square is the wanted one.

    The scale's own random bits are the chance that is drawn with.
    """
    upper = np.clip(np.searchsorted(values, wanted), 1, len(values) - 1)
    below, above = np.square(values[upper - 1]), np.square(values[upper])
    takes_upper = (np.square(wanted) - below) / (above - below) > (chance + 0.5) / 256
    codes: Bytes = (upper - 1 + takes_upper).astype(np.uint8)
    return codes


def _same_nibbles(blocks: Bytes) -> None:
    """Q2_K: each group's minimum is its scale, in the other half of the byte."""
    low = blocks[:, :16] & 0x0F
    blocks[:, :16] = low | (low << 4)


def _same_six_bits(blocks: Bytes) -> None:
    """Q4_K, Q5_K: each group's minimum is its scale, six bits each packed into twelve bytes."""
    blocks[:, 8:12] = blocks[:, 4:8]
    low = blocks[:, 12:16] & 0x0F
    blocks[:, 12:16] = low | (low << 4)


def _three_levels(blocks: Bytes) -> None:
    """TQ2_0: two bits hold -1, 0 or 1; the fourth pattern, which no quantiser writes, becomes 0."""
    levels = blocks[:, :64]
    fourth = levels & (levels >> 1) & 0x55
    levels &= ~(fourth << 1)


_RECIPES: Mapping[str, BlockRecipe] = MappingProxyType(
    {
        "Q4_0": BlockRecipe(_half_at(0)),
        "Q4_1": BlockRecipe(_halves_at(0, 2, -7.5)),
        "Q5_0": BlockRecipe(_half_at(0)),
        "Q5_1": BlockRecipe(_halves_at(0, 2, -15.5)),
        "Q2_K": BlockRecipe(_halves_at(80, 82, 1.5), _same_nibbles),
        "Q3_K": BlockRecipe(_half_at(108)),
        "Q4_K": BlockRecipe(_halves_at(0, 2, 7.5), _same_six_bits),
        "Q5_K": BlockRecipe(_halves_at(0, 2, 15.5), _same_six_bits),
        "Q6_K": BlockRecipe(_half_at(208)),
        "IQ1_S": BlockRecipe(_half_at(0)),
        "IQ1_M": BlockRecipe(_half_in_nibbles),
        "IQ2_XXS": BlockRecipe(_half_at(0)),
        "IQ2_XS": BlockRecipe(_half_at(0)),
        "IQ2_S": BlockRecipe(_half_at(0)),
        "IQ3_XXS": BlockRecipe(_half_at(0)),
        "IQ3_S": BlockRecipe(_half_at(0)),
        "IQ4_NL": BlockRecipe(_half_at(0)),
        "IQ4_XS": BlockRecipe(_half_at(0)),
        "TQ1_0": BlockRecipe(_half_at(52)),
        "TQ2_0": BlockRecipe(_half_at(64), _three_levels),
        "MXFP4": BlockRecipe(_exponent),
        "NVFP4": BlockRecipe(_small_floats),
    }
)
RANDOM_TYPES: tuple[str, ...] = (*WRITABLE_TYPES, *_RECIPES)
