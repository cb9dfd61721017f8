"""Small vocabularies in the two forms in which checkpoints carry them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer

GLM_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = [
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>"),
    *("<|code_prefix|>", "<|code_middle|>", "<|code_suffix|>", "<think>", "</think>", "<tool_call>", "</tool_call>"),
    *("<tool_response>", "</tool_response>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink"),
    *("<|begin_of_box|>", "<|end_of_box|>", "<|image|>", "<|video|>"),
]
"""As GLM's; those from `<think>` to `/nothink` are added to its vocabulary without being marked as special."""

CORPUS = """
def read(self, path: str) -> int:
    for index in range(len(self.tokens)):
        if self.tokens[index] is None and path != "/nothink /nothing":
            return self.position + index  # it's what they'll read, isn't it?
The router chooses the experts and the indexer chooses the tokens that the layer reads.
Ключ и значение, ключ и значение. 中文字符、测试。 日本語のテスト。 naïve café, déjà vu 😀😀
x = 1234567890 * 0xDEADBEEF; print(f"{x:,}")\r\n\r\n\tif (a && b) { return *p++ << 2; }
user user> |user| think> <|us er|> system, assistant, observation [gMASK [MASK ]
"""


@cache
def glm_json() -> bytes:
    """A tokenizer.json like GLM's, with traps.

    The control token /nothink is in the vocabulary that merges make, with merges that lead to it; another one is
    there without merges, where whole words are looked up.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = _glm_cuts()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=256 + 150, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(CORPUS.splitlines(keepends=True) * 3, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab, merges = learned["vocab"], [tuple(pair) for pair in learned["merges"]]
    for left, right in zip(["/", "/n", "/no", "/not", "/noth", "/nothi", "/nothin"], "nothink", strict=True):
        merges += [(left, right)] if (left, right) not in merges else []
        vocab.setdefault(left + right, len(vocab))
    vocab["Ġwholeword"] = len(vocab)  # no merges lead to it
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = _glm_cuts()
    tokenizer.decoder = decoders.ByteLevel()
    first, last = CONTROL.index("<think>"), CONTROL.index("/nothink")
    for place, text in enumerate(CONTROL):
        tokenizer.add_tokens([AddedToken(text, special=not first <= place <= last, normalized=False)])
    return tokenizer.to_str().encode()


def gguf_metadata(data: bytes, pre: str) -> dict[str, Any]:
    """The metadata that a converter writes for a tokenizer.json."""
    document = json.loads(data)
    added = {entry["id"]: entry for entry in document["added_tokens"]}
    spelled = {token_id: text for text, token_id in document["model"]["vocab"].items()}
    spelled |= {token_id: entry["content"] for token_id, entry in added.items()}
    ids = range(max(spelled) + 1)
    types = [(3 if added[token_id]["special"] else 4) if token_id in added else 1 for token_id in ids]
    ends = {key: entry["id"] for entry in added.values() for key, text in ENDS.items() if entry["content"] == text}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tuple(spelled[token_id] for token_id in ids),
        "tokenizer.ggml.token_type": tuple(types),
        "tokenizer.ggml.merges": tuple(" ".join(pair) for pair in document["model"]["merges"]),
    } | ends


ENDS = {
    "tokenizer.ggml.eos_token_id": "<|endoftext|>",
    "tokenizer.ggml.eot_token_id": "<|user|>",
    "tokenizer.ggml.eom_token_id": "<|observation|>",
    "tokenizer.ggml.bos_token_id": "[gMASK]",
}


def bytes_json(**changes: Any) -> bytes:
    """A tokenizer.json whose ordinary tokens are the 256 bytes, with whole parts of the document replaced."""
    vocab = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    return json.dumps(document | changes).encode()


def added_token(token_id: int, text: str, **changes: Any) -> dict[str, Any]:
    """An entry of `added_tokens`."""
    rules = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token_id, "content": text} | rules | changes


def _glm_cuts() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GLM_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
