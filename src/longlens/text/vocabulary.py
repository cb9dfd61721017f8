"""A byte-level BPE vocabulary with its control tokens apart, whichever file it came from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import tokenizers
from tokenizers import AddedToken
from tokenizers.models import BPE
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

from longlens.errors import ConfigError, FormatError
from longlens.text.byte_alphabet import BYTE_OF_CHARACTER

Merge = tuple[str, str]

_HIGHEST_ID = 2**31 - 1


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a file, and the merges that make the ordinary ones.

    Control tokens are out of reach: they are not among the ordinary tokens, and merges that lead to them are left
    out. So no text, whatever it spells, is encoded as one of them.

    Attributes:
        ordinary: id of each ordinary token, by its byte-level spelling.
        blank: id of each run of white space that the file adds to the vocabulary as it stands; found in any text.
        control: id of each control token, by its text.
        merges: pairs of ordinary tokens, most important first.
    """

    ordinary: Mapping[str, int]
    blank: Mapping[str, int]
    control: Mapping[str, int]
    merges: Sequence[Merge]


@dataclass(frozen=True)
class Vocabulary:
    """What turns text into token ids and back.

    Attributes:
        tokens: the tokens and merges.
        ignores_merges: a word that is a token as it stands is not merged from its bytes.
        pre_tokenizer: how text is cut into words.
        normalizer: what is done to text before; None for nothing.
        bos_id: the token that begins a sequence, where there is one.
        adds_bos: a prompt that no template made begins with it.
        stop_ids: the tokens that end a reply.
        takes_white_before: control tokens that white space before them belongs to.
        takes_white_after: control tokens that white space after them belongs to.
    """

    tokens: TokenTable
    ignores_merges: bool
    pre_tokenizer: PreTokenizer
    normalizer: Normalizer | None
    bos_id: int | None
    adds_bos: bool
    stop_ids: frozenset[int]
    takes_white_before: frozenset[str] = frozenset()
    takes_white_after: frozenset[str] = frozenset()

    def build(self) -> tokenizers.Tokenizer:
        """Return an encoder of ordinary tokens for the tokenizers library.

        Raises:
            FormatError: the library refuses the vocabulary.
        """
        table = self.tokens
        with LibraryRefusals("the tokenizer's vocabulary"):
            model = BPE(
                vocab={**table.ordinary, **table.blank},
                merges=list(table.merges),
                ignore_merges=self.ignores_merges,
            )
            encoder = tokenizers.Tokenizer(model)
            encoder.pre_tokenizer = self.pre_tokenizer
            if self.normalizer is not None:
                encoder.normalizer = self.normalizer
            encoder.add_tokens([AddedToken(text, special=False, normalized=False) for text in table.blank])
        return encoder


def token_table(
    tokens: Mapping[str, int], added: Mapping[str, int], blank: Collection[str], merges: Iterable[Merge]
) -> TokenTable:
    """Take the control tokens out of a vocabulary and its merges.

    Args:
        tokens: id of every token that merges may make; added ones may be among them.
        added: id of every token that the file marks as special, as added by its text, or as the end of something.
        blank: those of `added` that are ordinary text all the same.
        merges: the file's merges.

    Raises:
        ConfigError: two tokens share an id, or an id is out of range.
        FormatError: a merge names a token that does not exist.
    """
    # A single byte is never a control token: without it, text that holds the byte could not be encoded.
    control = {
        text: token_id for text, token_id in added.items() if text not in blank and text not in BYTE_OF_CHARACTER
    }
    ordinary = {text: token_id for text, token_id in tokens.items() if text not in added or text in BYTE_OF_CHARACTER}
    table = TokenTable(
        ordinary=ordinary,
        blank={text: added[text] for text in blank},
        control=control,
        merges=_ordinary_merges(merges, ordinary, tokens.keys() | added.keys()),
    )
    _check_ids([*table.ordinary.values(), *table.blank.values(), *table.control.values()])
    return table


def _ordinary_merges(merges: Iterable[Merge], ordinary: Mapping[str, int], known: Collection[str]) -> list[Merge]:
    kept: dict[Merge, None] = {}
    for merge in merges:
        made = (*merge, "".join(merge))
        if all(token in ordinary for token in made):
            kept.setdefault(merge)
        elif any(token not in known for token in made):
            missing = next(token for token in made if token not in known)
            raise FormatError(
                f"the tokenizer merges {merge[0]!r} and {merge[1]!r}, but its vocabulary lacks {missing!r}",
                "the file is damaged; download or convert it again",
            )
    return list(kept)


def _check_ids(ids: list[int]) -> None:
    for token_id in ids:
        if not 0 <= token_id <= _HIGHEST_ID:
            raise ConfigError(f"the tokenizer has the token id {token_id}", "the file is damaged; get it again")
    if len(set(ids)) != len(ids):
        raise ConfigError("two tokens of the tokenizer share an id", "the file is damaged; get it again")


class LibraryRefusals:
    """Turns the bare `Exception` by which the tokenizers library refuses its input into a FormatError.

    The library raises exactly that class and no subclass of it; whatever is more specific is a defect and passes.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is Exception:
            raise FormatError(
                f"{self._subject} is refused: {error}", "the file is damaged; download or convert it again"
            ) from error
