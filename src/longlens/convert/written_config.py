"""A Hugging Face configuration as a GGUF file can say it, and the tensors that stand for what it cannot say.

Source: llama.cpp, conversion/llama.py (`rope_freqs`), deepseek.py and glm.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from longlens.errors import UnsupportedModelError
from longlens.model.config import GqaConfig, Llama3Scaling, ModelConfig
from longlens.model.rope import frequencies_of

ROPE_FACTORS = "model.rope_freqs"


@dataclass(frozen=True, eq=False)
class WrittenConfig:
    """What the file says.

    Attributes:
        config: of the model in the file.
        computed: parameters that the checkpoint does not hold, fp32.
        paired_heads: heads, by the projection whose rows change places: llama.cpp rotates neighbours, and checkpoints
            of llama have the two rows of a pair half a head apart.
    """

    config: ModelConfig
    computed: Mapping[str, Tensor]
    paired_heads: Mapping[str, int]

    def heads_of(self, parameter: str) -> int | None:
        """The heads of a parameter whose rows change places; None for every other."""
        return self.paired_heads.get(parameter.rpartition(".")[0].rpartition(".")[2])


def written_config(config: ModelConfig, *, has_mtp: bool) -> WrittenConfig:
    """Bring a configuration into GGUF's form.

    Args:
        config: read from a config.json.
        has_mtp: whether the checkpoint holds the multi-token prediction layer; what it lacks is not promised.

    Raises:
        UnsupportedModelError: rotary pairs that lie otherwise than in the published models of the architecture.
    """
    if not has_mtp:
        config = replace(config, num_nextn_predict_layers=0)
    rope, attention = config.rope, config.attention
    if not isinstance(attention, GqaConfig):
        indexer_pairs = config.indexer is not None and config.indexer.is_rope_interleaved
        if not rope.is_interleaved or indexer_pairs != (config.architecture == "glm_moe_dsa"):
            raise UnsupportedModelError(
                "the rotary pairs of this model lie otherwise than those of its published relatives",
                "GGUF has no key for it; use llama.cpp's converter",
            )
        return WrittenConfig(config, {}, {})
    heads = {"q_proj": attention.num_attention_heads, "k_proj": attention.num_key_value_heads}
    computed = {}
    if isinstance(rope.scaling, Llama3Scaling):
        plain = replace(rope, scaling=None)
        computed[ROPE_FACTORS] = frequencies_of(plain) / frequencies_of(rope)
        rope = replace(plain, has_factor_tensor=True)
    pairs = {} if rope.is_interleaved else heads
    return WrittenConfig(replace(config, rope=replace(rope, is_interleaved=True)), computed, pairs)
