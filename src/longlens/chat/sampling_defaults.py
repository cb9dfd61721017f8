"""How a checkpoint's authors want it sampled, where they said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from longlens.errors import ConfigError


@dataclass(frozen=True)
class SamplingDefaults:
    """Values for what a request leaves open; `source` is where they come from.

    Greedy where the checkpoint says nothing.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    source: str = "greedy, the checkpoint names no sampling"


def defaults_of_generation_config(config: Mapping[str, object]) -> SamplingDefaults:
    """Read generation_config.json.

    Raises:
        ConfigError: a value is not a number.
    """
    known = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty"}
    found = {name: config[name] for name in known if config.get(name) is not None}
    if config.get("do_sample") is False or not found:
        return SamplingDefaults()
    return _defaults(found, "generation_config.json")


def defaults_of_gguf(metadata: Mapping[str, object]) -> SamplingDefaults:
    """Read the `general.sampling.*` keys of a GGUF file.

    Raises:
        ConfigError: a value is not a number.
    """
    spelling = {
        "temperature": "temp",
        "top_k": "top_k",
        "top_p": "top_p",
        "min_p": "min_p",
        "repetition_penalty": "penalty_repeat",
    }
    keys = {name: f"general.sampling.{key}" for name, key in spelling.items()}
    found = {name: metadata[key] for name, key in keys.items() if key in metadata}
    return _defaults(found, "general.sampling in the file") if found else SamplingDefaults()


def _defaults(found: Mapping[str, object], source: str) -> SamplingDefaults:
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{source}: {name} is {value!r}, not a number", "mend the file, or give the option")
    values = {name: float(value) for name, value in found.items()}  # type: ignore[arg-type]
    return SamplingDefaults(
        # Sampling that is asked for without a temperature means the distribution as it is.
        temperature=values.get("temperature", 1.0),
        top_k=int(values.get("top_k", 0)),
        top_p=values.get("top_p", 1.0),
        min_p=values.get("min_p", 0.0),
        repetition_penalty=values.get("repetition_penalty", 1.0),
        source=source,
    )
