"""Which element type llama.cpp gives to each tensor of a GGUF file: the mixtures behind names such as Q4_K_M.

Source: llama.cpp of 2026-10-01, src/llama-quant.cpp (what is quantised, the type of each tensor, what a row that is
not whole blocks becomes) and conversion/base.py (what stays F32 in an F16 file). Without an importance matrix.
tests/golden/quantiser_types.json holds what llama-quantize itself chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from longlens.formats.element_types import GGML_TYPES, ElementType
from longlens.model.config import GqaConfig, ModelConfig
from longlens.model.needs import parameter_needs
from longlens.weights.names import Arrangement, tensor_name
from longlens.weights.parameters import ParameterNeed

_TYPES: Mapping[str, ElementType] = MappingProxyType({kind.name: kind for kind in GGML_TYPES.values()})


@dataclass(frozen=True)
class Mixture:
    """One of llama-quantize's file types.

    Attributes:
        default: type of a matrix that no rule names.
        raised: type of `attn_v` and `ffn_down` in the layers that get more bits; None if none do.
        output: type of the head, and of an embedding that is the head as well.
        eight_expert_output: type of `attn_output` in a model of eight experts; None: as any other.
    """

    default: str
    raised: str | None
    output: str
    eight_expert_output: str | None = None


MIXTURES: Mapping[str, Mixture] = MappingProxyType(
    {
        "f16": Mixture("F16", None, "F16"),
        "q8_0": Mixture("Q8_0", None, "Q8_0"),
        "q6_k": Mixture("Q6_K", None, "Q6_K"),
        "q5_k_m": Mixture("Q5_K", "Q6_K", "Q6_K"),
        "q4_k_m": Mixture("Q4_K", "Q6_K", "Q6_K", eight_expert_output="Q5_K"),
        "q4_0": Mixture("Q4_0", None, "Q6_K"),
    }
)

# What a row that is not whole blocks of 256 is stored as; a row that is not whole blocks of 32 either becomes F16.
_NARROWER: Mapping[str, str] = MappingProxyType({"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"})
_EIGHT_EXPERTS = 8
# Llama's 70 billion, told by its layers and by sharing keys among heads: its few value rows get more bits.
_LAYERS_OF_70B = 80


@dataclass(frozen=True)
class GgufTensor:
    """A tensor as a GGUF file holds it.

    Attributes:
        need: the parameter.
        name: llama.cpp's name.
        shape: slowest-varying first.
        element_type: of the stored weights.
    """

    need: ParameterNeed
    name: str
    shape: tuple[int, ...]
    element_type: ElementType

    @property
    def num_bytes(self) -> int:
        """Bytes of its data."""
        return self.element_type.bytes_for(prod(self.shape))


def gguf_tensors(config: ModelConfig, file_type: str) -> Iterator[GgufTensor]:
    """List a model's tensors as a GGUF file of this type holds them.

    Args:
        config: of any supported architecture.
        file_type: a key of `MIXTURES`.
    """
    mixture = MIXTURES[file_type]
    for need in parameter_needs(config):
        name, arrangement = tensor_name(need.name, "gguf")
        shape = need.shape
        if arrangement is Arrangement.TRANSPOSED:
            shape = (*shape[:-2], shape[-1], shape[-2])
        yield GgufTensor(need, name, shape, _TYPES[_element(config, mixture, name, shape)])


def _element(config: ModelConfig, mixture: Mixture, name: str, shape: tuple[int, ...]) -> str:
    if not _is_quantised(name, shape):
        return "F32"
    if mixture.default == "F16":
        # The converter, not the quantiser, makes F16 files: it keeps the indexer's head weights exact.
        return "F32" if name.endswith("indexer.proj.weight") else "F16"
    return _fitting(_wanted(config, mixture, name), shape[-1])


def _is_quantised(name: str, shape: tuple[int, ...]) -> bool:
    """Matrices of weights are; norms, biases, tables and the router's gate are not."""
    is_matrix = prod(shape[:-1]) > 1
    return is_matrix and name.endswith(".weight") and not name.endswith(("_norm.weight", "ffn_gate_inp.weight"))


def _wanted(config: ModelConfig, mixture: Mixture, name: str) -> str:
    """The type that the rules ask for, whatever the row's length."""
    if name == "output.weight" or (name == "token_embd.weight" and config.tie_word_embeddings):
        return mixture.output
    kind = name.removesuffix(".weight").rpartition(".")[2]
    if kind in ("attn_v", "attn_k") and _num_experts(config) == _EIGHT_EXPERTS:
        return "Q8_0"
    if kind == "attn_v":
        return _value_type(config, mixture, name)
    if kind in ("ffn_down", "ffn_down_exps", "ffn_down_shexp"):
        return _raised(config, mixture, name)
    if kind == "attn_output" and _num_experts(config) == _EIGHT_EXPERTS:
        return mixture.eight_expert_output or mixture.default
    return mixture.default


def _value_type(config: ModelConfig, mixture: Mixture, name: str) -> str:
    wanted = _raised(config, mixture, name)
    attention = config.attention
    if (
        wanted == "Q4_K"
        and isinstance(attention, GqaConfig)
        and config.num_hidden_layers == _LAYERS_OF_70B
        and attention.num_attention_heads != attention.num_key_value_heads
    ):
        return "Q5_K"
    return wanted


def _raised(config: ModelConfig, mixture: Mixture, name: str) -> str:
    """The first and the last eighth of the layers get more bits, and between them every third."""
    if mixture.raised is None:
        return mixture.default
    layer, layers = int(name.split(".")[1]), config.num_hidden_layers + config.num_nextn_predict_layers
    eighth = layers // 8
    if layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2:
        return mixture.raised
    return mixture.default


def _num_experts(config: ModelConfig) -> int:
    return 0 if config.moe is None else config.moe.n_routed_experts


def _fitting(wanted: str, columns: int) -> str:
    for kind in (wanted, _NARROWER.get(wanted, wanted)):
        if columns % _TYPES[kind].block_elements == 0:
            return kind
    return "F16"
