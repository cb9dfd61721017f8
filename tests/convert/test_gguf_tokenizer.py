import json
from pathlib import Path
from typing import Any

import pytest

from longlens.convert.gguf_tokenizer import TokenRoles, metadata_of_tokenizer
from longlens.errors import ConfigError, UnsupportedModelError
from longlens.formats.checkpoint import open_checkpoint
from longlens.text.tokenizer import Tokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures"
DOCUMENT = (FIXTURES / "tiny-glm" / "tokenizer.json").read_bytes()
STOPS = [313, 320, 322]
GLM = TokenRoles(stop_ids=tuple(STOPS))
TEXT = "def read(self, path: str) -> int:  # the indexer§12:42\n\n\treturn 1234\r\n<|user|> é 漢\U0001f600"


def test_the_keys_are_those_of_llama_cpps_converter() -> None:
    ours = metadata_of_tokenizer(DOCUMENT, num_tokens=352, roles=GLM)
    with open_checkpoint(FIXTURES / "tiny-glm-F32.gguf") as checkpoint:
        for key, value in ours.items():
            theirs = checkpoint.metadata[key]
            assert (list(theirs) if isinstance(theirs, tuple) else theirs) == value, key


def test_both_layouts_encode_alike() -> None:
    metadata = metadata_of_tokenizer(DOCUMENT, num_tokens=352, roles=GLM)
    one, other = Tokenizer.from_gguf(metadata), Tokenizer.from_json(DOCUMENT, stop_ids=STOPS)
    assert one.encode(TEXT) == other.encode(TEXT)
    assert one.stop_ids == other.stop_ids


@pytest.mark.parametrize(("num_tokens", "stop_ids"), [(300, STOPS), (352, [])])
def test_a_configuration_that_does_not_belong_is_refused(num_tokens: int, stop_ids: list[int]) -> None:
    with pytest.raises(ConfigError, match="rows"):
        metadata_of_tokenizer(DOCUMENT, num_tokens=num_tokens, roles=TokenRoles(stop_ids=tuple(stop_ids)))


def changed(**changes: Any) -> bytes:
    content = json.loads(DOCUMENT)
    content["model"] |= changes.pop("model", {})
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    "document",
    [changed(model={"type": "Unigram"}), changed(model={"ignore_merges": False}), changed(pre_tokenizer=None)],
)
def test_other_tokenizers_are_refused(document: bytes) -> None:
    with pytest.raises(UnsupportedModelError, match="glm4"):
        metadata_of_tokenizer(document, num_tokens=352, roles=GLM)


LLAMA = TokenRoles("llama", stop_ids=(313,), begin_id=320)


def test_a_cut_is_named_after_the_first_of_its_architecture_that_makes_it() -> None:
    assert metadata_of_tokenizer(DOCUMENT, num_tokens=352, roles=LLAMA)["tokenizer.ggml.pre"] == "llama-bpe"
    digits = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}],
    }
    document = changed(pre_tokenizer=digits, model={"ignore_merges": False})
    assert metadata_of_tokenizer(document, num_tokens=352, roles=LLAMA)["tokenizer.ggml.pre"] == "smollm"
    with pytest.raises(UnsupportedModelError, match="deepseek-v3"):
        metadata_of_tokenizer(DOCUMENT, num_tokens=352, roles=TokenRoles("deepseek_v32", stop_ids=(313,)))


@pytest.mark.parametrize(
    ("says", "first", "adds"), [(None, "SpecialToken", True), (None, "Sequence", False), (False, "SpecialToken", False)]
)
def test_a_text_begins_with_a_token_where_the_settings_or_the_document_say_so(
    says: bool | None, first: str, adds: bool
) -> None:
    document = changed(post_processor={"type": "TemplateProcessing", "single": [{first: {"id": "A"}}]})
    metadata = metadata_of_tokenizer(document, num_tokens=352, roles=TokenRoles("llama", (313,), 320, says))
    assert metadata["tokenizer.ggml.add_bos_token"] is adds
    assert metadata["tokenizer.ggml.bos_token_id"] == 320
