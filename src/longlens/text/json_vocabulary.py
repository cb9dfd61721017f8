"""The vocabulary in a Hugging Face tokenizer.json.

Source: the tokenizers library's file format; transformers, tokenizer_config.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

import tokenizers

from longlens.errors import ConfigError, FormatError, UnsupportedModelError
from longlens.text.vocabulary import LibraryRefusals, Merge, TokenTable, Vocabulary, token_table

_DAMAGED = "the file is damaged; download it again"
_SUPPORTED = "supported are byte-level BPE vocabularies"


def vocabulary_from_json(data: bytes, *, config: Mapping[str, object], stop_ids: Iterable[int]) -> Vocabulary:
    """Read the vocabulary from the bytes of a tokenizer.json.

    Args:
        data: the file.
        config: tokenizer_config.json; empty where there is none.
        stop_ids: the ids that generation_config.json or config.json name as ends (`eos_token_id`).

    Raises:
        UnsupportedModelError: another kind of tokenizer than byte-level BPE, or a token that depends on its neighbours.
        ConfigError: a value makes no sense.
        FormatError: the file is not a tokenizer.json.
    """
    document = _document(data)
    model = _mapping(document.get("model"), "model")
    _check_kind(document, model)
    added = [_mapping(entry, "added_tokens") for entry in _list(document.get("added_tokens", []), "added_tokens")]
    ends = frozenset(stop_ids)
    table = _table(model, added, ends)
    stages = _stages(document)
    end = _special_token(config, "eos_token", table)
    begin = _special_token(config, "bos_token", table)
    template_begin = _begin_of_post_processor(document, table)
    adds_bos = config.get("add_bos_token")
    if adds_bos is True and begin is None:
        raise ConfigError("add_bos_token is true, but the tokenizer has no bos_token", _DAMAGED)
    return Vocabulary(
        tokens=table,
        ignores_merges=model.get("ignore_merges") is True,
        pre_tokenizer=stages.pre_tokenizer,
        normalizer=stages.normalizer,
        bos_id=begin if begin is not None else template_begin,
        adds_bos=adds_bos if isinstance(adds_bos, bool) else template_begin is not None,
        stop_ids=ends | ({end} if end is not None else set()),
        takes_white_before=_with_rule(added, "lstrip"),
        takes_white_after=_with_rule(added, "rstrip"),
    )


def _document(data: bytes) -> Mapping[str, object]:
    try:
        return _mapping(json.loads(data), "the file")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"tokenizer.json is not JSON: {error}", _DAMAGED) from error


def _check_kind(document: Mapping[str, object], model: Mapping[str, object]) -> None:
    kind = model.get("type")
    if kind != "BPE":
        raise UnsupportedModelError(f"tokenizer.json holds a model of the type {kind!r}", _SUPPORTED)
    for key in ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise UnsupportedModelError(f"tokenizer.json sets {key} to {model[key]!r}", _SUPPORTED)
    if not any(stage.get("type") == "ByteLevel" for stage in _flat(document.get("pre_tokenizer"), "pretokenizers")):
        raise UnsupportedModelError("tokenizer.json does not cut text into bytes", _SUPPORTED)


def _stages(document: Mapping[str, object]) -> tokenizers.Tokenizer:
    """Let the library read how text is prepared, with an empty vocabulary."""
    empty = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": document.get("normalizer"),
        "pre_tokenizer": document.get("pre_tokenizer"),
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    with LibraryRefusals("tokenizer.json"):
        return tokenizers.Tokenizer.from_str(json.dumps(empty))


def _table(model: Mapping[str, object], added: list[Mapping[str, object]], ends: frozenset[int]) -> TokenTable:
    tokens = {text: _integer(value, text) for text, value in _mapping(model.get("vocab"), "vocab").items()}
    ids: dict[str, int] = {}
    blank = []
    for entry in added:
        text = _string(entry.get("content"), "added_tokens")
        ids[text] = _integer(entry.get("id"), text)
        if not entry.get("special") and text.isspace():
            blank.append(text)
        if entry.get("single_word"):
            raise UnsupportedModelError(f"the token {text!r} is only meant as a word", "supported are tokens anywhere")
    ids |= {text: token_id for text, token_id in tokens.items() if token_id in ends}
    return token_table(tokens=tokens, added=ids, blank=blank, merges=_merges(model))


def _with_rule(added: list[Mapping[str, object]], rule: str) -> frozenset[str]:
    return frozenset(str(entry["content"]) for entry in added if entry.get(rule))


def _merges(model: Mapping[str, object]) -> Iterator[Merge]:
    for entry in _list(model.get("merges"), "merges"):
        pair = entry.split(" ") if isinstance(entry, str) else _list(entry, "merges")
        if len(pair) != 2:
            raise FormatError(f"tokenizer.json has the merge {entry!r}, which is no pair of tokens", _DAMAGED)
        yield _string(pair[0], "merges"), _string(pair[1], "merges")


def _special_token(config: Mapping[str, object], key: str, table: TokenTable) -> int | None:
    value = config.get(key)
    text = value.get("content") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        return None
    token_id = table.control.get(text, table.ordinary.get(text))
    if token_id is None:
        raise ConfigError(f"tokenizer_config.json names the {key} {text!r}, which no token spells", _DAMAGED)
    return token_id


def _begin_of_post_processor(document: Mapping[str, object], table: TokenTable) -> int | None:
    """Return the token that the post-processor puts first, where it does."""
    for stage in _flat(document.get("post_processor"), "processors"):
        single = stage.get("single")
        first = single[0] if isinstance(single, list) and single else None
        token = first.get("SpecialToken") if isinstance(first, Mapping) else None
        if stage.get("type") == "TemplateProcessing" and isinstance(token, Mapping):
            return table.control.get(_string(token.get("id"), "post_processor"))
    return None


def _flat(stage: object, inner: str) -> Iterator[Mapping[str, object]]:
    """Walk a stage of the file, and the stages in it if it is a sequence."""
    if not isinstance(stage, Mapping):
        return
    yield stage
    stages = stage.get(inner)
    for nested in stages if isinstance(stages, list) else []:
        yield from _flat(nested, inner)


def _mapping(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise FormatError(f"tokenizer.json: {name} is not an object", _DAMAGED)
    return value


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise FormatError(f"tokenizer.json: {name} is not an array", _DAMAGED)
    return value


def _string(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise FormatError(f"tokenizer.json: {value!r} in {name} is not a string", _DAMAGED)
    return value


def _integer(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError(f"tokenizer.json: the id of {name!r} is not an integer", _DAMAGED)
    return value
