"""Make pocket's tokenizer: byte-level BPE, cut as GLM-4 cuts, with GLM's special tokens.

    python -m training.pocket.tokenizer FOLDER     FOLDER/sources.jsonl -> FOLDER/tokenizer.json

Three choices keep a pack's tokens independent of what stands around them. No token holds a newline beside anything
else, so a line's tokens do not depend on the next line, nor on whether an anchor stands at its end. Every number up to
999 is one token, so an anchor ` §12:42` is four. ` §` and `§` are one token each.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

VOCAB_SIZE = 8192
GLM4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# In the order of GLM's own numbering (154820 to 154855).
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|begin_of_audio|>",
    "<|end_of_audio|>",
    "<|begin_of_transcription|>",
    "<|end_of_transcription|>",
    "<|code_prefix|>",
    "<|code_middle|>",
    "<|code_suffix|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "/nothink",
    "<|begin_of_box|>",
    "<|end_of_box|>",
    "<|image|>",
    "<|video|>",
]
UNMARKED = ("<think>", "</think>", "<tool_", "</tool_", "<arg_", "</arg_", "/nothink")
_SIGN_MERGES = [("Â", "§"), ("Ġ", "Â§")]
_NUMBERS = [str(number) for number in range(10, 100)] + [f"0{digit}" for digit in range(10)]
_LONG_NUMBERS = [str(number) for number in range(100, 1000)]
_EXTRA = len(_SIGN_MERGES) + len(_NUMBERS) + len(_LONG_NUMBERS) + len(SPECIAL_TOKENS)
TRAINING_BYTES = 40_000_000


def make(folder: Path) -> Tokenizer:
    """Learn the merges from a sample of the training files' lines."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = cutting()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=VOCAB_SIZE - _EXTRA, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(sample_lines(folder / "sources.jsonl"), trainer)
    learned = json.loads(learner.to_str())["model"]
    numbers = [(text[:-1], text[-1]) for text in _NUMBERS + _LONG_NUMBERS]
    merges = [tuple(pair) for pair in learned["merges"]] + _SIGN_MERGES + numbers
    vocab = dict(learned["vocab"])
    for left, right in _SIGN_MERGES + numbers:
        vocab[left + right] = len(vocab)
    result = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    result.pre_tokenizer = cutting()
    result.decoder = decoders.ByteLevel()
    result.post_processor = processors.ByteLevel(trim_offsets=False)
    tokens = [AddedToken(text, special=not text.startswith(UNMARKED), normalized=False) for text in SPECIAL_TOKENS]
    result.add_tokens(tokens)
    if result.get_vocab_size() != VOCAB_SIZE:
        raise SystemExit(f"the vocabulary has {result.get_vocab_size()} tokens instead of {VOCAB_SIZE}")
    return result


def cutting() -> pre_tokenizers.PreTokenizer:
    """Split as GLM-4 does, then write bytes as letters."""
    split = pre_tokenizers.Split(Regex(GLM4_PATTERN), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def sample_lines(sources: Path) -> Iterator[str]:
    """Lines of training files without their newlines and digits; every tenth as a question would quote names."""
    generator = random.Random(5)
    total = 0
    with sources.open() as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["held_out"] or generator.random() > 0.2:
                continue
            for text in re.sub(r"\d|§", "", entry["text"]).splitlines():
                yield text
                total += len(text)
            if total > TRAINING_BYTES:
                return


if __name__ == "__main__":
    target = Path(sys.argv[1])
    make(target).save(str(target / "tokenizer.json"))
