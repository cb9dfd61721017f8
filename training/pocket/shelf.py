"""The token arrays that `tokenise` wrote, as the loader reads them."""

from __future__ import annotations

import io
import json
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that packs are built with.

    Attributes:
        control: id of a control token by its text.
        numbers: token ids of the numbers 0..9999.
        joins: per token, whether its text would continue a name that stands before it.
        is_space: per token, whether it is white space without a newline.
        num_bytes: per token, how many bytes of text it stands for.
    """

    tokenizer: Tokenizer
    control: dict[str, int]
    newline: int
    sign: int
    spaced_sign: int
    colon: int
    numbers: list[list[int]]
    joins: np.ndarray
    is_space: np.ndarray
    num_bytes: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Read tokenizer.json."""
        tokenizer = Tokenizer.from_file(str(path))
        size = tokenizer.get_vocab_size()
        pieces = [tokenizer.id_to_token(token_id) for token_id in range(size)]
        added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        control = {text: tokenizer.token_to_id(text) for text in added}
        return cls(
            tokenizer=tokenizer,
            control=control,
            newline=tokenizer.token_to_id("Ċ"),
            sign=tokenizer.token_to_id("Â§"),
            spaced_sign=tokenizer.token_to_id("ĠÂ§"),
            colon=tokenizer.token_to_id(":"),
            numbers=[tokenizer.encode(str(number)).ids for number in range(10_000)],
            joins=np.array([piece[0].isalnum() or piece[0] == "_" for piece in pieces]),
            is_space=np.array([set(piece) <= set("Ġĉ") for piece in pieces]),
            num_bytes=np.array([0 if piece in added else len(piece) for piece in pieces], np.int64),
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of text that spells no control token."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids


@dataclass(frozen=True)
class Shelf:
    """Files as token ids, their lines, and what they define.

    Attributes:
        tokens: all files, joined; each ends in a newline.
        line_start: where each line begins; one entry more than there are lines.
        file_line: the first line of each file; one entry more than there are files.
        definition_of_file: where a file's definitions begin in the next two; one entry more than there are files.
        definition_line: the definition's line in its file, from 0.
        definition_name: an entry of `names`.
        package_files: per package, its files' numbers.
    """

    tokens: np.ndarray
    line_start: np.ndarray
    file_line: np.ndarray
    definition_of_file: np.ndarray
    definition_line: np.ndarray
    definition_name: np.ndarray
    names: list[str]
    paths: list[str]
    package_files: list[list[int]]

    @property
    def num_files(self) -> int:
        return len(self.paths)

    @classmethod
    def read(cls, path: Path, newline: int) -> Shelf:
        """Unpack one of the arrays files."""
        with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as arrays:
            tokens, lengths, definitions = arrays["tokens"], arrays["lengths"], arrays["definitions"]
            text = json.loads(arrays["text"].tobytes())
        line_start = np.concatenate([[0], np.flatnonzero(tokens == newline) + 1])
        file_start = np.concatenate([[0], np.cumsum(lengths.astype(np.int64))])
        packages: dict[str, list[int]] = {}
        for number, (package, _) in enumerate(text["files"]):
            packages.setdefault(package, []).append(number)
        return cls(
            tokens=tokens,
            line_start=line_start,
            file_line=np.searchsorted(line_start, file_start),
            definition_of_file=np.searchsorted(definitions[:, 0], np.arange(len(lengths) + 1)),
            definition_line=definitions[:, 1].astype(np.int64),
            definition_name=definitions[:, 2].astype(np.int64),
            names=text["names"],
            paths=[file_path for _, file_path in text["files"]],
            package_files=list(packages.values()),
        )
