"""Quantised models with int8 activations against fp32 on their dequantised weights: the design's bound."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import longlens.chat.opening
from longlens.chat.facade import LoadedModel
from longlens.chat.opening import Opening, open_model
from longlens.kernels.choose import KernelWish
from longlens.plan.planner import Wishes
from tests.agreement.fixture_models import open_fixture
from tests.golden_models import logits_of

pytest.importorskip("longlens.kernels._native", reason="the C++ kernels are not built")
from longlens.kernels.native import PACKED_TYPES, NativeKernels

LEAST_TOP1 = 0.96
MOST_DIVERGENCE = 2e-3
LENGTH = 512
KINDS: tuple[KernelWish, ...] = ("plain", "native")


def check_agreement(plain_TV: Tensor, native_TV: Tensor) -> None:
    theirs, ours = plain_TV.double().log_softmax(-1), native_TV.double().log_softmax(-1)
    divergence = (theirs.exp() * (theirs - ours)).sum(-1).mean()
    top1 = (theirs.argmax(-1) == ours.argmax(-1)).double().mean()
    assert not torch.equal(plain_TV, native_TV), "the packed weights were not used"
    assert divergence <= MOST_DIVERGENCE
    assert top1 >= LEAST_TOP1


@pytest.mark.parametrize("fixture", ["wide-glm-Q4_K_M.gguf", "wide-glm-Q6_K.gguf", "tiny-llama-Q8_0.gguf"])
def test_a_quantised_fixture_stays_within_the_bound(fixture: str) -> None:
    plain = open_fixture(fixture).model
    native = open_fixture(fixture, kernels=NativeKernels(2), packed_types=PACKED_TYPES).model
    token_ids = [7 + 11 * i % (plain.vocab_size - 7) for i in range(LENGTH)]
    check_agreement(logits_of(plain, token_ids), logits_of(native, token_ids))


def test_the_embedded_model_stays_within_the_bound_on_source_code() -> None:
    text = Path(longlens.chat.opening.__file__).read_text()
    logits = {}
    wishes = Wishes(context=4096, compute_element="f32")
    for kernels in KINDS:
        with LoadedModel(open_model(Opening("pocket", "cpu", wishes, kernels=kernels))) as model:
            token_ids = model.opened.conversation.tokenizer.encode(text)[: 2 * LENGTH]
            logits[kernels] = model.logits(token_ids)
    check_agreement(*(logits[kind] for kind in KINDS))
