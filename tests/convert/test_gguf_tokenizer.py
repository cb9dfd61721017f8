import json
from pathlib import Path
from typing import Any

import pytest

from longlens.convert.gguf_tokenizer import metadata_of_tokenizer
from longlens.errors import ConfigError, UnsupportedModelError
from longlens.formats.checkpoint import open_checkpoint
from longlens.text.tokenizer import Tokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures"
DOCUMENT = (FIXTURES / "tiny-glm" / "tokenizer.json").read_bytes()
STOPS = [313, 320, 322]
TEXT = "def read(self, path: str) -> int:  # the indexer§12:42\n\n\treturn 1234\r\n<|user|> é 漢\U0001f600"


def test_the_keys_are_those_of_llama_cpps_converter() -> None:
    ours = metadata_of_tokenizer(DOCUMENT, num_tokens=352, stop_ids=STOPS)
    with open_checkpoint(FIXTURES / "tiny-glm-F32.gguf") as checkpoint:
        for key, value in ours.items():
            theirs = checkpoint.metadata[key]
            assert (list(theirs) if isinstance(theirs, tuple) else theirs) == value, key


def test_both_layouts_encode_alike() -> None:
    metadata = metadata_of_tokenizer(DOCUMENT, num_tokens=352, stop_ids=STOPS)
    one, other = Tokenizer.from_gguf(metadata), Tokenizer.from_json(DOCUMENT, stop_ids=STOPS)
    assert one.encode(TEXT) == other.encode(TEXT)
    assert one.stop_ids == other.stop_ids


@pytest.mark.parametrize(("num_tokens", "stop_ids"), [(300, STOPS), (352, [])])
def test_a_configuration_that_does_not_belong_is_refused(num_tokens: int, stop_ids: list[int]) -> None:
    with pytest.raises(ConfigError, match="rows"):
        metadata_of_tokenizer(DOCUMENT, num_tokens=num_tokens, stop_ids=stop_ids)


def changed(**changes: Any) -> bytes:
    content = json.loads(DOCUMENT)
    content["model"] |= changes.pop("model", {})
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    "document",
    [changed(model={"type": "Unigram"}), changed(model={"ignore_merges": False}), changed(pre_tokenizer=None)],
)
def test_other_tokenizers_are_refused(document: bytes) -> None:
    with pytest.raises(UnsupportedModelError, match="GLM-4"):
        metadata_of_tokenizer(document, num_tokens=352, stop_ids=STOPS)
