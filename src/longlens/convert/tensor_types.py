"""Which element type each tensor of a file that `longlens quantize` writes has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from longlens.convert.file_type import FILE_TYPE_NUMBERS
from longlens.formats.element_types import GGML_TYPES, ElementType
from longlens.model.config import ModelConfig
from longlens.plan.gguf_mixture import MIXTURES, gguf_tensors

_TYPES: Mapping[str, ElementType] = MappingProxyType({kind.name: kind for kind in GGML_TYPES.values()})
QUANTISED_FILE_TYPES: tuple[str, ...] = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "F16", "BF16", "F32")


class TensorTypes:
    """The types of one model's tensors in a file of one type.

    Args:
        config: of the model.
        file_type: one of `QUANTISED_FILE_TYPES`.
    """

    def __init__(self, config: ModelConfig, file_type: str) -> None:
        self.file_type = file_type
        mixture = file_type.lower() if file_type.lower() in MIXTURES else "f16"
        self._of_name = {tensor.name: self._plain(tensor.element_type.name) for tensor in gguf_tensors(config, mixture)}
        self._default = self._plain(MIXTURES[mixture].default)

    @property
    def number(self) -> int:
        """`general.file_type`."""
        return FILE_TYPE_NUMBERS[self.file_type]

    def of(self, name: str, shape: tuple[int, ...]) -> str:
        """The element type of a tensor.

        One that the model has no use for follows the rules as far as its name tells: a matrix of weights is of the
        type that most are, or F16 where its rows are not whole blocks of it.
        """
        known = self._of_name.get(name)
        if known is not None:
            return known
        if len(shape) < 2 or not name.endswith(".weight") or name.endswith("norm.weight"):
            return "F32"
        return self._default if shape[-1] % _TYPES[self._default].block_elements == 0 else "F16"

    def is_wider(self, name: str, element_type: str) -> bool:
        """Whether a tensor is stored as something else than the mixture wants because of the length of its rows."""
        return name.endswith(".weight") and element_type in _FALLBACKS and element_type not in self._wanted()

    def _wanted(self) -> frozenset[str]:
        mixture = MIXTURES.get(self.file_type.lower())
        if mixture is None:
            return frozenset({self.file_type})
        return frozenset(filter(None, (mixture.default, mixture.raised, mixture.output)))

    def _plain(self, element_type: str) -> str:
        """BF16 and F32 files are F16 files whose matrices are of another type."""
        return self.file_type if element_type == "F16" and self.file_type in ("BF16", "F32") else element_type


_FALLBACKS = frozenset({"Q5_0", "Q5_1", "Q8_0", "F16"})
