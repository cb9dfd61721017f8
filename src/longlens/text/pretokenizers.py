"""How each kind of byte-level vocabulary cuts text into words before it merges bytes.

GGUF names the cutting (`tokenizer.ggml.pre`) and leaves it to the reader to know it; tokenizer.json spells it out.

Source: the pattern of each checkpoint's tokenizer.json; llama.cpp, `llm_tokenizer_bpe` (same cuts, and which of them
look a whole word up before merging).
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

from longlens.errors import UnsupportedModelError

_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_THREE_DIGITS = _CL100K % "{1,3}"
_ONE_DIGIT = _CL100K % ""

_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


@dataclass(frozen=True)
class PreTokenization:
    """What `tokenizer.ggml.pre` stands for.

    Attributes:
        patterns: each cuts further what the one before has left whole; none means GPT-2's own pattern.
        cuts_digits: every digit is a word of its own, before the patterns.
        ignores_merges: a word that is a token as it stands is not merged from its bytes.
        adds_bos: a prompt begins with the BOS token unless the file says otherwise.
    """

    patterns: tuple[str, ...] = ()
    cuts_digits: bool = False
    ignores_merges: bool = False
    adds_bos: bool = False

    def build(self) -> PreTokenizer:
        """Return the cutting as the tokenizers library does it."""
        stages: list[PreTokenizer] = [Digits(individual_digits=True)] if self.cuts_digits else []
        stages += [Split(Regex(pattern), "isolated") for pattern in self.patterns]
        stages.append(ByteLevel(add_prefix_space=False, use_regex=not self.patterns))
        return Sequence(stages)


# GLM's older name for the same cuts came before files whose vocabulary holds words that no merge leads to.
PRE_TOKENIZATIONS: dict[str, PreTokenization] = {
    "glm4": PreTokenization((_THREE_DIGITS,), ignores_merges=True),
    "glm5": PreTokenization((_THREE_DIGITS,), ignores_merges=True),
    "chatglm-bpe": PreTokenization((_THREE_DIGITS,)),
    "gpt-2": PreTokenization(),
    "llama-bpe": PreTokenization((_THREE_DIGITS,), ignores_merges=True, adds_bos=True),
    "smollm": PreTokenization(cuts_digits=True),
    "qwen2": PreTokenization((_ONE_DIGIT,)),
    "deepseek-v3": PreTokenization(_DEEPSEEK_V3),
}


def pre_tokenization(name: object) -> PreTokenization:
    """Look up the value of `tokenizer.ggml.pre`.

    Raises:
        UnsupportedModelError: longlens does not know it.
    """
    found = PRE_TOKENIZATIONS.get(name) if isinstance(name, str) else None
    if found is None:
        given = "missing" if name is None else f"{name!r}, which is unknown"
        raise UnsupportedModelError(
            f"tokenizer.ggml.pre is {given}", f"supported are {', '.join(sorted(PRE_TOKENIZATIONS))}"
        )
    return found
