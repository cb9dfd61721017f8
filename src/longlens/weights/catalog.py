"""Which tensors of a checkpoint make up which parameter: needs and files brought together, by headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from longlens.errors import ParameterError, UnsupportedModelError
from longlens.formats.tensors import TensorInfo
from longlens.weights.names import WITHOUT_EFFECT, Arrangement, is_indexer_tensor, tensor_name
from longlens.weights.parameters import ParameterNeed

_FP8 = ("F8_E4M3", "F8_E5M2")
_WHOLE_NUMBERS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
# DeepSeek's and Z.ai's spelling first, then Quark's; both are multiplied, whatever the name suggests.
_SCALE_SUFFIXES = ("_scale_inv", "_scale")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of the file, with the block scales that belong to it when it is FP8."""

    info: TensorInfo
    scale: TensorInfo | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes in the file, scales included."""
        return self.info.num_bytes + (self.scale.num_bytes if self.scale else 0)


@dataclass(frozen=True)
class ParameterSource:
    """Where one parameter comes from: one tensor, or one an expert."""

    need: ParameterNeed
    tensors: tuple[StoredTensor, ...]
    arrangement: Arrangement

    @property
    def num_bytes(self) -> int:
        """Bytes in the file; a tensor that two parameters share counts in both by its share of rows."""
        total = sum(tensor.num_bytes for tensor in self.tensors)
        if self.arrangement in (Arrangement.KEY_ROWS, Arrangement.VALUE_ROWS):
            return total * self.need.num_elements // self.tensors[0].info.num_elements
        return total


@dataclass(frozen=True)
class Catalog:
    """Every parameter's source, and what of the file nobody asked for.

    Attributes:
        sources: by parameter name, in the order of the needs.
        unknown: tensors that no parameter uses, to be warned about by name.
        ignored: tensors that are known to have no use here (indexers on shared layers, rotary tables).
        has_mtp: whether the file carries the MTP layer.
    """

    sources: Mapping[str, ParameterSource]
    unknown: tuple[str, ...]
    ignored: tuple[str, ...]
    has_mtp: bool

    @property
    def num_bytes(self) -> int:
        """Bytes of all parameters in the file."""
        return sum(source.num_bytes for source in self.sources.values())


def build_catalog(needs: Iterable[ParameterNeed], tensors: Mapping[str, TensorInfo], layout: str) -> Catalog:
    """Find every needed parameter among a checkpoint's tensors.

    Args:
        needs: what the model asks for (`model/needs.py`).
        tensors: the checkpoint's tensors by name.
        layout: "gguf" or "safetensors".

    Raises:
        ParameterError: a needed tensor (or its FP8 scale) is missing, or its shape is not the needed one.
        UnsupportedModelError: a needed tensor holds whole numbers.
    """
    wanted = list(needs)
    has_mtp = any(_is_present(need, tensors, layout) for need in wanted if not need.is_run)
    sources = {need.name: _find_source(need, tensors, layout) for need in wanted if need.is_run or has_mtp}
    _check_kv_b_pairs(sources)
    used = {name for source in sources.values() for name in _names_of(source)}
    rest = [name for name in tensors if name not in used]
    ignored = tuple(name for name in rest if _is_ignored(name))
    unknown = tuple(name for name in rest if not _is_ignored(name))
    return Catalog(sources, unknown, ignored, has_mtp)


def _is_ignored(name: str) -> bool:
    return WITHOUT_EFFECT.fullmatch(name) is not None or is_indexer_tensor(name)


def _names_of(source: ParameterSource) -> Iterator[str]:
    for tensor in source.tensors:
        yield tensor.info.name
        if tensor.scale is not None:
            yield tensor.scale.name


def _is_present(need: ParameterNeed, tensors: Mapping[str, TensorInfo], layout: str) -> bool:
    pattern, _ = tensor_name(need.name, layout)
    return pattern.replace("{expert}", "0") in tensors


def _find_source(need: ParameterNeed, tensors: Mapping[str, TensorInfo], layout: str) -> ParameterSource:
    pattern, arrangement = tensor_name(need.name, layout)
    # One after the other: the first missing expert ends the search, however many the configuration claims.
    experts = range(need.shape[0] if arrangement is Arrangement.PER_EXPERT else 1)
    stored = tuple(_find_tensor(pattern.replace("{expert}", str(expert)), tensors) for expert in experts)
    for tensor in stored:
        _check_shape(need, tensor.info, arrangement)
    return ParameterSource(need, stored, arrangement)


def _find_tensor(name: str, tensors: Mapping[str, TensorInfo]) -> StoredTensor:
    info = tensors.get(name)
    if info is None:
        raise ParameterError(
            f"the tensor {name!r} is missing",
            "the checkpoint is incomplete, or its configuration describes another model",
        )
    if info.element_type.name in _WHOLE_NUMBERS:
        raise UnsupportedModelError(
            f"the tensor {name!r} holds whole numbers ({info.element_type.name})",
            "they are weights only together with a scheme that longlens does not know; use BF16, FP8 or GGUF files",
        )
    if info.element_type.name not in _FP8:
        return StoredTensor(info)
    for suffix in _SCALE_SUFFIXES:
        if (scale := tensors.get(name + suffix)) is not None:
            return StoredTensor(info, scale)
    raise ParameterError(
        f"the tensor {name!r} is FP8, but {name + _SCALE_SUFFIXES[0]!r} is missing",
        "FP8 weights mean nothing without their block scales; use a complete checkpoint",
    )


def _check_shape(need: ParameterNeed, info: TensorInfo, arrangement: Arrangement) -> None:
    expected = need.shape
    if arrangement is Arrangement.PER_EXPERT:
        expected = need.shape[1:]
    elif arrangement is Arrangement.TRANSPOSED:
        expected = (*need.shape[:-2], need.shape[-1], need.shape[-2])
    elif arrangement in (Arrangement.KEY_ROWS, Arrangement.VALUE_ROWS):
        return  # checked in pairs
    # GGUF drops trailing axes of size 1, so [E, F, 1] may come as [E, F]; compare what remains.
    if _without_ones(info.shape) != _without_ones(expected):
        raise _misshapen(info, list(expected))


def _check_kv_b_pairs(sources: Mapping[str, ParameterSource]) -> None:
    """One tensor of the file feeds both halves, so only together do they fix its number of rows."""
    for source in sources.values():
        if source.arrangement is Arrangement.KEY_ROWS:
            value = sources[source.need.name.removesuffix("key") + "value"]
            heads, rows, latent = source.need.shape
            expected = (heads * (rows + value.need.shape[1]), latent)
            if source.tensors[0].info.shape != expected:
                raise _misshapen(source.tensors[0].info, list(expected))


def _misshapen(info: TensorInfo, expected: object) -> ParameterError:
    return ParameterError(
        f"the tensor {info.name!r} has shape {list(info.shape)}, expected {expected}",
        "the checkpoint's configuration describes another model; use matching files",
    )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
