"""Text to token ids and back, exact to the byte, with control tokens out of reach of any text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from longlens.errors import UsageError
from longlens.text.byte_alphabet import CHARACTER_OF_BYTE, spell, unspell
from longlens.text.gguf_vocabulary import vocabulary_from_gguf
from longlens.text.json_vocabulary import vocabulary_from_json
from longlens.text.segments import ControlTokens, Segment
from longlens.text.vocabulary import Vocabulary

# Where bytes are not UTF-8, Python's "surrogateescape" puts these characters; real text has none of them.
_ESCAPED_BYTES = re.compile("([\udc80-\udcff]+)")
_NO_TOKEN = "\ufffd".encode()


class Tokenizer:
    """A byte-level BPE tokenizer.

    `encode` takes text for text: `<|user|>` in it becomes a few ordinary tokens, and so does the spelling of every
    other control token. Control tokens come from a chat template alone (`encode_rendered`).

    Attributes:
        control: the control tokens and where they stand in a text.
        special_ids: their ids.
        stop_ids: the ids that end a reply.
        start_ids: what a prompt that no template made begins with: the BOS token, or nothing.
        bos_id: the BOS token, where there is one; templates write it out.
        vocab_size: one more than the highest id.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        table = vocabulary.tokens
        self.control = ControlTokens(table.control)
        self.special_ids = frozenset(table.control.values())
        self.stop_ids = vocabulary.stop_ids
        self.bos_id = vocabulary.bos_id
        self.start_ids = (vocabulary.bos_id,) if vocabulary.adds_bos and vocabulary.bos_id is not None else ()
        self._encoder = vocabulary.build()
        self._takes_white_before = vocabulary.takes_white_before
        self._takes_white_after = vocabulary.takes_white_after
        self._control_ids = dict(table.control)
        self._ordinary_ids = dict(table.ordinary)
        self._bytes_of = {token_id: unspell(token) for token, token_id in table.ordinary.items()}
        added = (*table.control.items(), *table.blank.items())
        self._bytes_of |= {token_id: text.encode("utf-8", "replace") for text, token_id in added}
        self._missing_bytes = frozenset(
            byte for byte, character in enumerate(CHARACTER_OF_BYTE) if character not in table.ordinary
        )
        self.vocab_size = max(self._bytes_of, default=-1) + 1

    @classmethod
    def from_json(
        cls, data: bytes, *, config: Mapping[str, object] | None = None, stop_ids: Iterable[int] = ()
    ) -> Tokenizer:
        """Read a Hugging Face tokenizer.

        Args:
            data: tokenizer.json.
            config: tokenizer_config.json.
            stop_ids: `eos_token_id` of generation_config.json, else of config.json.

        Raises:
            UnsupportedModelError: another kind of tokenizer than byte-level BPE.
            ConfigError: a value makes no sense.
            FormatError: `data` is not a tokenizer.json.
        """
        return cls(vocabulary_from_json(data, config=config or {}, stop_ids=stop_ids))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object]) -> Tokenizer:
        """Read the tokenizer in a GGUF file's metadata (`tokenizer.ggml.*`).

        Raises:
            UnsupportedModelError: another kind of tokenizer, or a way of cutting words that longlens does not know.
            ConfigError: a key is missing, or its value makes no sense.
            FormatError: tokens, types and merges contradict each other.
        """
        return cls(vocabulary_from_gguf(metadata))

    def encode(self, text: str) -> list[int]:
        """Encode text as text: no control token comes out, whatever it spells, and no BOS token is added.

        Raises:
            UsageError: the text holds a lone surrogate, or a byte that the vocabulary has no token for.
        """
        self._check(text)
        return self._encoder.encode(text, add_special_tokens=False).ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Encode bytes that need not be UTF-8; what is UTF-8 among them is encoded as `encode` does.

        Raises:
            UsageError: the vocabulary has no token for a byte.
        """
        ids: list[int] = []
        for position, run in enumerate(_ESCAPED_BYTES.split(data.decode("utf-8", "surrogateescape"))):
            if position % 2:
                ids += [self._id_of_byte(byte) for byte in run.encode("utf-8", "surrogateescape")]
            elif run:
                ids += self.encode(run)
        return ids

    def encode_rendered(self, segments: Iterable[Segment]) -> list[int]:
        """Encode what a chat template rendered; texts that touch are encoded as one.

        Raises:
            UsageError: see `encode`; or a control segment is no control token of this vocabulary.
        """
        ids: list[int] = []
        texts: list[str] = []
        last = ""
        for segment in segments:
            if not segment.is_control:
                texts.append(segment.text)
                continue
            ids += self.encode(self._between(last, "".join(texts), segment.text))
            ids.append(self._control_id(segment.text))
            texts.clear()
            last = segment.text
        return ids + self.encode(self._between(last, "".join(texts), ""))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens, control tokens spelled out; bytes that are not UTF-8 become U+FFFD.

        Raises:
            UsageError: an id is negative.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes a token stands for.

        Output layers may have more rows than there are tokens; an id beyond the tokens stands for U+FFFD.

        Raises:
            UsageError: the id is negative.
        """
        if token_id < 0:
            raise UsageError(f"{token_id} is not a token id", "token ids are 0 or more")
        return self._bytes_of.get(token_id, _NO_TOKEN)

    def id_of(self, token: str) -> int:
        """Return the id of the one token that `token` is: a control token, or text that is a token as it stands.

        Raises:
            UsageError: no token is spelled so.
        """
        token_id = self._control_ids.get(token, self._ordinary_ids.get(spell(token.encode("utf-8", "replace"))))
        if token_id is None:
            raise UsageError(f"the vocabulary has no token {token!r}", "name a token of this model")
        return token_id

    def _between(self, before: str, text: str, after: str) -> str:
        """Take away the white space that belongs to the control tokens around a text."""
        if before in self._takes_white_after:
            text = text.lstrip()
        return text.rstrip() if after in self._takes_white_before else text

    def _control_id(self, text: str) -> int:
        if text not in self._control_ids:
            raise UsageError(f"{text!r} is no control token of this vocabulary", "render with this tokenizer's control")
        return self._control_ids[text]

    def _id_of_byte(self, byte: int) -> int:
        if byte in self._missing_bytes:
            raise UsageError(f"the vocabulary has no token for the byte 0x{byte:02X}", "remove it from the text")
        return self._ordinary_ids[CHARACTER_OF_BYTE[byte]]

    def _check(self, text: str) -> None:
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"character {error.start} of the text is U+{ord(text[error.start]):04X}, half of a surrogate pair",
                "give text that UTF-8 can hold",
            ) from error
        # The library would drop such bytes without a word.
        for byte in sorted(self._missing_bytes.intersection(data)):
            self._id_of_byte(byte)
