"""A Hugging Face tokenizer as GGUF metadata.

Source: GGUF specification, `tokenizer.ggml.*`; llama.cpp, conversion/glm.py (which token is which end).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from longlens.convert.gguf_writer import MetadataValue
from longlens.errors import ConfigError, UnsupportedModelError
from longlens.text.pretokenizers import PRE_TOKENIZATIONS

_PRE = "glm4"
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_BEGIN, _END_OF_TURN, _END_OF_CALL = "[gMASK]", "<|user|>", "<|observation|>"


def metadata_of_tokenizer(document: bytes, *, num_tokens: int, stop_ids: Sequence[int]) -> dict[str, MetadataValue]:
    """Return `tokenizer.ggml.*` for a tokenizer.json.

    Args:
        document: the file.
        num_tokens: rows of the embedding; rows beyond the tokens become unused tokens.
        stop_ids: `eos_token_id` of the configuration; the first one is the end of text.

    Raises:
        UnsupportedModelError: not a byte-level BPE that cuts words as GLM-4 does.
        ConfigError: more tokens than rows, two tokens of one number, or no end of text.
    """
    content: dict[str, Any] = json.loads(document)
    model = content["model"]
    _check(content, model)
    tokens: dict[int, str] = {token_id: text for text, token_id in model["vocab"].items()}
    types = dict.fromkeys(tokens, _NORMAL)
    for entry in content.get("added_tokens", []):
        tokens[entry["id"]] = entry["content"]
        types[entry["id"]] = _CONTROL if entry["special"] else _USER_DEFINED
    if not stop_ids or max(tokens) >= num_tokens:
        raise ConfigError(
            f"{len(tokens)} tokens, the highest {max(tokens)}, for {num_tokens} rows and {len(stop_ids)} stop tokens",
            "give config.json that belongs to this tokenizer, with eos_token_id",
        )
    keys: dict[str, MetadataValue] = {
        "model": "gpt2",
        "pre": _PRE,
        "tokens": [tokens.get(token_id, f"[PAD{token_id}]") for token_id in range(num_tokens)],
        "token_type": [types.get(token_id, _UNUSED) for token_id in range(num_tokens)],
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        "eos_token_id": stop_ids[0],
        "padding_token_id": stop_ids[0],
        "unknown_token_id": stop_ids[0],
        "add_bos_token": False,
    }
    keys |= _named({text: token_id for token_id, text in tokens.items()})
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def _named(ids: Mapping[str, int]) -> dict[str, int]:
    names = {"bos_token_id": _BEGIN, "eot_token_id": _END_OF_TURN, "eom_token_id": _END_OF_CALL}
    return {key: ids[text] for key, text in names.items() if text in ids}


def _check(content: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    patterns = []
    stage = content.get("pre_tokenizer") or {}
    for step in stage.get("pretokenizers", [stage]):
        if step.get("type") == "Split":
            patterns.append(step.get("pattern", {}).get("Regex"))
    known = PRE_TOKENIZATIONS[_PRE]
    if model.get("type") != "BPE" or tuple(patterns) != known.patterns or not model.get("ignore_merges"):
        raise UnsupportedModelError(
            "the tokenizer is not a byte-level BPE that cuts words as GLM-4's does",
            "longlens writes GGUF files with tokenizer.ggml.pre glm4 only; use llama.cpp's converter",
        )
