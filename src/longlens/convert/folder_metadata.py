"""The metadata of a GGUF file made of a Hugging Face folder: the model's, its tokenizer's and its templates'."""

from __future__ import annotations

from collections.abc import Mapping

from longlens.convert.file_type import FILE_TYPE_NUMBERS, QUANTISATION_VERSION
from longlens.convert.gguf_families import metadata_of_any_config
from longlens.convert.gguf_tokenizer import TokenRoles, metadata_of_tokenizer
from longlens.convert.gguf_writer import MetadataValue
from longlens.errors import ConfigError
from longlens.formats.checkpoint import Checkpoint
from longlens.formats.json_object import read_json_object
from longlens.model.config import ModelConfig
from longlens.text.template import DEFAULT, templates_of_checkpoint


def metadata_of_folder(
    checkpoint: Checkpoint, config: ModelConfig, *, name: str, file_type: str
) -> dict[str, MetadataValue]:
    """Make the metadata.

    Args:
        checkpoint: an open Hugging Face folder, with config.json and tokenizer.json.
        config: read from its config.json.
        name: `general.name`.
        file_type: a key of `FILE_TYPE_NUMBERS`.

    Raises:
        ConfigError: tokenizer.json is missing, or does not belong to this configuration.
        UnsupportedModelError: a configuration or a tokenizer that longlens does not write.
    """
    tokenizer = checkpoint.side_file("tokenizer.json")
    if tokenizer is None:
        raise ConfigError(
            f"{checkpoint.path} has no tokenizer.json", "put the model's tokenizer.json beside its weights"
        )
    model = metadata_of_any_config(config)
    metadata: dict[str, MetadataValue] = {
        "general.architecture": model["general.architecture"],
        "general.type": "model",
        "general.name": name,
        "general.file_type": FILE_TYPE_NUMBERS[file_type],
        "general.quantization_version": QUANTISATION_VERSION,
    }
    metadata |= _sampling(_json(checkpoint, "generation_config.json"))
    metadata |= model
    settings = _json(checkpoint, "tokenizer_config.json")
    roles = _roles(checkpoint.metadata, settings, config.architecture)
    metadata |= metadata_of_tokenizer(tokenizer, num_tokens=config.vocab_size, roles=roles)
    template = checkpoint.side_file("chat_template.jinja")
    text = None if template is None else template.decode("utf-8")
    for key, source in templates_of_checkpoint(text, settings).items():
        suffix = "" if key == DEFAULT else f".{key}"
        metadata[f"tokenizer.chat_template{suffix}"] = source
    return metadata


def _roles(config: Mapping[str, object], settings: Mapping[str, object], architecture: str) -> TokenRoles:
    stops, begin, adds = config.get("eos_token_id"), config.get("bos_token_id"), settings.get("add_bos_token")
    return TokenRoles(
        architecture,
        stop_ids=tuple(stops) if isinstance(stops, list) else (stops,) if isinstance(stops, int) else (),
        begin_id=begin if isinstance(begin, int) else None,
        adds_begin=adds if isinstance(adds, bool) else None,
    )


def _sampling(generation: Mapping[str, object]) -> dict[str, MetadataValue]:
    names = {"temperature": "temp", "top_p": "top_p"}
    values = {f"general.sampling.{short}": generation.get(key) for key, short in names.items()}
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float)}


def _json(checkpoint: Checkpoint, name: str) -> Mapping[str, object]:
    data = checkpoint.side_file(name)
    return {} if data is None else read_json_object(data, name)
