"""Which layers own an indexer: IndexShare's schedule, in the order in which its spellings are believed.

Source: arXiv 2603.12201; transformers, `GlmMoeDsaConfig.__post_init__`; GLM-5.2's config.json.
"""

from __future__ import annotations

from collections.abc import Sequence

from longlens.errors import ConfigError


def full_layers_of_types(types: Sequence[object], key: str = "indexer_types") -> tuple[bool, ...]:
    """Read `indexer_types`: one "full" or "shared" a layer; `key` names the list in errors.

    Raises:
        ConfigError: another word.
    """
    for layer, word in enumerate(types):
        if word not in ("full", "shared"):
            raise ConfigError(f"{key}[{layer}] is {word!r}", 'each entry must be "full" or "shared"')
    return tuple(word == "full" for word in types)


def full_layers_of_pattern(pattern: object) -> tuple[bool, ...]:
    """Read `index_topk_pattern`: a string of F and S, or a list of words.

    Raises:
        ConfigError: another letter, or neither a string nor a list.
    """
    if isinstance(pattern, str):
        words = {"F": "full", "S": "shared"}
        return full_layers_of_types([words.get(letter, letter) for letter in pattern], "index_topk_pattern")
    if isinstance(pattern, Sequence):
        return full_layers_of_types(pattern, "index_topk_pattern")
    raise ConfigError(f"index_topk_pattern is {pattern!r}", 'write a string of F and S, such as "FSSS"')


def full_layers_of_frequency(num_layers: int, frequency: int, offset: int) -> tuple[bool, ...]:
    """Derive the schedule from `index_topk_freq` and `index_skip_topk_offset`.

    Layer i is full when max(i - offset + 1, 0) is a multiple of the frequency; frequency 1 (or 0, which means the
    same) makes every layer full.
    """
    step = max(frequency, 1)
    return tuple(max(layer - offset + 1, 0) % step == 0 for layer in range(num_layers))
