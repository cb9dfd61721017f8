"""The vocabulary that a GGUF file carries in its metadata.

Source: GGUF specification, `tokenizer.ggml.*`; llama.cpp, `llama_vocab::impl::load` (token types, defaults, the names
by which ends of turns are known).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

from longlens.errors import ConfigError, FormatError, UnsupportedModelError
from longlens.text.pretokenizers import pre_tokenization
from longlens.text.vocabulary import LibraryRefusals, Merge, Vocabulary, token_table

_PREFIX = "tokenizer.ggml."
_STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Files from before the keys for ends of turns existed are recognised by these names, as llama.cpp does.
_STOP_NAMES = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
_DAMAGED = "the file is damaged; download or convert it again"


class _TokenType(IntEnum):
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


def vocabulary_from_gguf(metadata: Mapping[str, object]) -> Vocabulary:
    """Read the vocabulary from GGUF metadata.

    Args:
        metadata: the file's keys and values; arrays as any iterable.

    Raises:
        UnsupportedModelError: another kind of tokenizer than byte-level BPE, or a way of cutting words that longlens
            does not know.
        ConfigError: a key is missing, or its value makes no sense.
        FormatError: tokens, types and merges contradict each other.
    """
    kind = metadata.get(_PREFIX + "model")
    if kind != "gpt2":
        given = "missing" if kind is None else repr(kind)
        raise UnsupportedModelError(f"tokenizer.ggml.model is {given}", "supported is gpt2 (byte-level BPE)")
    cutting = pre_tokenization(metadata.get(_PREFIX + "pre"))
    tokens = _tokens(metadata)
    added = _added(metadata, tokens)
    ids = {text: token_id for token_id, text in enumerate(tokens)}
    table = token_table(
        tokens=ids,
        added={text: ids[text] for text in added},
        blank=[text for text, token_type in added.items() if token_type == _TokenType.USER_DEFINED and text.isspace()],
        merges=_merges(metadata),
    )
    stop_ids = {_token_id(metadata, key, len(tokens)) for key in _STOP_KEYS} - {None}
    stop_ids |= {table.control[name] for name in _STOP_NAMES if name in table.control}
    bos_id = _token_id(metadata, "bos_token_id", len(tokens))
    with LibraryRefusals("tokenizer.ggml.pre"):
        pre_tokenizer = cutting.build()
    return Vocabulary(
        tokens=table,
        ignores_merges=cutting.ignores_merges,
        pre_tokenizer=pre_tokenizer,
        normalizer=None,
        bos_id=bos_id,
        adds_bos=_adds_bos(metadata, bos_id, default=cutting.adds_bos),
        stop_ids=frozenset(token_id for token_id in stop_ids if token_id is not None),
    )


def _tokens(metadata: Mapping[str, object]) -> list[str]:
    tokens = _strings(metadata, "tokens")
    # An empty entry is a gap in the numbering; a name that no text spells keeps it out of the way.
    tokens = [text or f"[EMPTY_{token_id}]" for token_id, text in enumerate(tokens)]
    if len(set(tokens)) != len(tokens):
        raise FormatError("tokenizer.ggml.tokens holds a token twice", _DAMAGED)
    return tokens


def _added(metadata: Mapping[str, object], tokens: list[str]) -> dict[str, int]:
    """Return the tokens that are more than text, with their types."""
    types = _integers(metadata, "token_type")
    if len(types) != len(tokens):
        raise FormatError(f"tokenizer.ggml has {len(tokens)} tokens, but {len(types)} token types", _DAMAGED)
    added = {text: kind for text, kind in zip(tokens, types, strict=True) if kind in set(_TokenType)}
    # The ends of a turn and the beginning are control tokens even in files that do not say so.
    for key in (*_STOP_KEYS, "bos_token_id"):
        token_id = _token_id(metadata, key, len(tokens))
        if token_id is not None:
            added[tokens[token_id]] = _TokenType.CONTROL
    return added


def _merges(metadata: Mapping[str, object]) -> Iterable[Merge]:
    for text in _strings(metadata, "merges"):
        left, space, right = text.partition(" ")
        if not (left and space and right):
            raise FormatError(f"tokenizer.ggml.merges holds {text!r}, which is no pair of tokens", _DAMAGED)
        yield left, right


def _adds_bos(metadata: Mapping[str, object], bos_id: int | None, *, default: bool) -> bool:
    adds_bos = metadata.get(_PREFIX + "add_bos_token", default)
    if not isinstance(adds_bos, bool):
        raise ConfigError(f"tokenizer.ggml.add_bos_token is {adds_bos!r}", "it must be true or false")
    if adds_bos and bos_id is None:
        raise ConfigError("prompts begin with a BOS token, but tokenizer.ggml.bos_token_id is missing", _DAMAGED)
    return adds_bos


def _token_id(metadata: Mapping[str, object], key: str, num_tokens: int) -> int | None:
    value = metadata.get(_PREFIX + key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < num_tokens:
        raise ConfigError(f"tokenizer.ggml.{key} is {value!r}", f"it must be below {num_tokens}, the number of tokens")
    return value


def _values(metadata: Mapping[str, object], key: str) -> list[object]:
    value = metadata.get(_PREFIX + key)
    if value is None:
        raise ConfigError(f"tokenizer.ggml.{key} is missing", "convert the model again with a current converter")
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise FormatError(f"tokenizer.ggml.{key} is not an array", _DAMAGED)
    return list(value)


def _strings(metadata: Mapping[str, object], key: str) -> list[str]:
    values = _values(metadata, key)
    strings = [value for value in values if isinstance(value, str)]
    if len(strings) != len(values):
        raise FormatError(f"tokenizer.ggml.{key} is not an array of strings", _DAMAGED)
    return strings


def _integers(metadata: Mapping[str, object], key: str) -> list[int]:
    values = _values(metadata, key)
    integers = [int(value) for value in values if hasattr(value, "__index__")]
    if len(integers) != len(values):
        raise FormatError(f"tokenizer.ggml.{key} is not an array of integers", _DAMAGED)
    return integers
