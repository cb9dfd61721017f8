"""A Hugging Face tokenizer as GGUF metadata.

Source: GGUF specification, `tokenizer.ggml.*`; llama.cpp, conversion/glm.py, deepseek.py and llama.py (which token is
which end, and how words are cut).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from longlens.convert.gguf_writer import MetadataValue
from longlens.errors import ConfigError, UnsupportedModelError
from longlens.text.pretokenizers import PRE_TOKENIZATIONS

_GLM = "glm_moe_dsa"
# Which of the cuts that GGUF can name a model's tokenizer may make, by architecture; several names have the same cut.
_PRE_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {_GLM: ("glm4",), "deepseek_v32": ("deepseek-v3",), "llama": ("llama-bpe", "smollm", "gpt-2", "qwen2")}
)
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_BEGIN, _END_OF_TURN, _END_OF_CALL = "[gMASK]", "<|user|>", "<|observation|>"


@dataclass(frozen=True)
class TokenRoles:
    """What a configuration says about tokens.

    Attributes:
        architecture: transformers' name of the model's.
        stop_ids: `eos_token_id`; the first one is the end of text.
        begin_id: `bos_token_id`; None where there is none. GLM's is known by its text.
        adds_begin: `add_bos_token` of the tokenizer's configuration; None leaves it to tokenizer.json.
    """

    architecture: str = _GLM
    stop_ids: tuple[int, ...] = ()
    begin_id: int | None = None
    adds_begin: bool | None = None


def metadata_of_tokenizer(document: bytes, *, num_tokens: int, roles: TokenRoles) -> dict[str, MetadataValue]:
    """Return `tokenizer.ggml.*` for a tokenizer.json.

    Args:
        document: the file.
        num_tokens: rows of the embedding; rows beyond the tokens become unused tokens.
        roles: which token is which.

    Raises:
        UnsupportedModelError: not a byte-level BPE, or one that cuts words as no reader of GGUF files knows for this
            architecture.
        ConfigError: more tokens than rows, two tokens of one number, or no end of text.
    """
    content: dict[str, Any] = json.loads(document)
    model = content["model"]
    pre = _pre_name(content, model, roles.architecture)
    tokens: dict[int, str] = {token_id: text for text, token_id in model["vocab"].items()}
    types = dict.fromkeys(tokens, _NORMAL)
    for entry in content.get("added_tokens", []):
        tokens[entry["id"]] = entry["content"]
        types[entry["id"]] = _CONTROL if entry["special"] else _USER_DEFINED
    if not roles.stop_ids or max(tokens) >= num_tokens:
        raise ConfigError(
            f"{len(tokens)} tokens up to {max(tokens)}, for {num_tokens} rows and {len(roles.stop_ids)} stop tokens",
            "give config.json that belongs to this tokenizer, with eos_token_id",
        )
    keys: dict[str, MetadataValue] = {
        "model": "gpt2",
        "pre": pre,
        "tokens": [tokens.get(token_id, f"[PAD{token_id}]") for token_id in range(num_tokens)],
        "token_type": [types.get(token_id, _UNUSED) for token_id in range(num_tokens)],
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        "eos_token_id": roles.stop_ids[0],
        "padding_token_id": roles.stop_ids[0],
        "unknown_token_id": roles.stop_ids[0],
    }
    if roles.architecture == _GLM:
        keys["add_bos_token"] = False
        keys |= _named({text: token_id for token_id, text in tokens.items()})
    else:
        begins = _begins(content) if roles.adds_begin is None else roles.adds_begin
        keys["add_bos_token"] = begins and roles.begin_id is not None
        keys |= {} if roles.begin_id is None else {"bos_token_id": roles.begin_id}
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def _named(ids: Mapping[str, int]) -> dict[str, int]:
    names = {"bos_token_id": _BEGIN, "eot_token_id": _END_OF_TURN, "eom_token_id": _END_OF_CALL}
    return {key: ids[text] for key, text in names.items() if text in ids}


def _pre_name(content: Mapping[str, Any], model: Mapping[str, Any], architecture: str) -> str:
    stage = content.get("pre_tokenizer") or {}
    steps = stage.get("pretokenizers", [stage])
    patterns = tuple(step.get("pattern", {}).get("Regex") for step in steps if step.get("type") == "Split")
    cuts_digits = any(step.get("type") == "Digits" and step.get("individual_digits") for step in steps)
    if model.get("type") == "BPE" and any(step.get("type") == "ByteLevel" for step in steps):
        for name in _PRE_NAMES[architecture]:
            known = PRE_TOKENIZATIONS[name]
            if (known.patterns, known.cuts_digits, known.ignores_merges) == (
                patterns,
                cuts_digits,
                bool(model.get("ignore_merges")),
            ):
                return name
    raise UnsupportedModelError(
        f"the tokenizer is not a byte-level BPE that cuts words as {' or '.join(_PRE_NAMES[architecture])} does",
        "longlens writes no other cut for this architecture; use llama.cpp's converter",
    )


def _begins(content: Mapping[str, Any]) -> bool:
    """Whether tokenizer.json itself puts a token before every text."""
    stage = content.get("post_processor") or {}
    for step in stage.get("processors", [stage]):
        if step.get("type") == "TemplateProcessing" and "SpecialToken" in (step.get("single") or [{}])[0]:
            return True
    return False
