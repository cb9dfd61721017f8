from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import longlens
from longlens import SamplingParams, TextDelta
from longlens.chat.facade import Asking, LoadedModel
from longlens.chat.opening import Opening, open_model
from longlens.chat.request import Finished
from longlens.engine.sequence import CancelFlag
from longlens.text.messages import Message

FIXTURES = Path(__file__).parents[1] / "fixtures"
PROMPT = [Message("user", "where is the indexer?")]


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    with longlens.load(str(FIXTURES / "tiny-glm-F32.gguf"), device="cpu", context=512) as loaded:
        yield loaded


def told(events: Iterator[object]) -> tuple[str, Finished]:
    *pieces, last = events
    assert isinstance(last, Finished)
    return "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)), last


def test_an_answer_ends_with_counts_and_times(model: LoadedModel) -> None:
    *_, finished = model.generate("def main", SamplingParams(max_tokens=5, ignore_eos=True))
    assert isinstance(finished, Finished)
    assert finished.finish_reason == "length"
    assert finished.usage.completion_tokens == 5
    assert finished.usage.prompt_tokens == finished.usage.read_tokens == len(model.encode("def main").token_ids)
    assert finished.usage.cache_source == "none"
    assert finished.timings.prefill_s > 0


def test_the_folder_and_the_gguf_of_one_model_answer_alike(model: LoadedModel) -> None:
    params = SamplingParams(max_tokens=8, ignore_eos=True)
    with longlens.load(str(FIXTURES / "tiny-glm"), device="cpu", context=512) as folder:
        assert folder.encode(PROMPT).token_ids == model.encode(PROMPT).token_ids
        answers = [[repr(event) for event in loaded.generate(PROMPT, params)][:-1] for loaded in (folder, model)]
    assert answers[0] == answers[1]
    assert answers[0]


def test_a_chat_prompt_begins_inside_of_the_reasoning(model: LoadedModel) -> None:
    assert model.encode(PROMPT).starts_in_reasoning
    assert not model.encode("def main").starts_in_reasoning


def test_logits_take_the_path_of_generation(model: LoadedModel) -> None:
    token_ids = model.encode("def main").token_ids
    logits = model.logits(token_ids)
    assert logits.shape == (len(token_ids), model.config.vocab_size)
    assert logits.dtype == torch.float32
    with model.session() as session:
        session.extend(token_ids)
        torch.testing.assert_close(session.logits(), logits[-1], rtol=0, atol=1e-4)


def test_a_session_answers_forks_and_rewinds_without_reading_again(model: LoadedModel) -> None:
    params = SamplingParams(max_tokens=6, ignore_eos=True)
    with model.session() as session:
        session.extend(model.encode("def main").token_ids)
        prompt_tokens = len(session.tokens)
        fork = session.fork()
        list(session.generate(params))
        answer = session.tokens[prompt_tokens:]
        *_, second = fork.generate(params)
        assert fork.tokens[prompt_tokens:] == answer
        assert isinstance(second, Finished)
        fork.rewind(prompt_tokens)
        *_, third = fork.generate(params)
        assert fork.tokens[prompt_tokens:] == answer
        assert isinstance(third, Finished)
        assert third.usage.cached_tokens >= prompt_tokens - 1
        assert third.usage.cache_source == "memory"
        fork.close()


def test_greedy_tokens_are_those_of_the_quantised_golden_logits() -> None:
    golden = np.load(Path(__file__).parents[1] / "golden" / "quantised.npz")
    tokens = golden["tiny-glm-Q8_0/64/tokens"].astype(int).tolist()
    # plain kernels: int8 activations move a random model's near ties
    opening = Opening(str(FIXTURES / "tiny-glm-Q8_0-00001-of-00002.gguf"), "cpu", kernels="plain")
    with LoadedModel(open_model(opening)) as split:
        logits = split.logits(tokens)[golden["tiny-glm-Q8_0/64/rows"].astype(int)]
    # The golden runs build their latent norms with eps 1e-6, the file says 1e-5: far below a token's lead.
    assert logits.argmax(-1).tolist() == golden["tiny-glm-Q8_0/64/logits"].argmax(-1).tolist()


def test_another_thread_can_cancel_within_half_a_second(model: LoadedModel) -> None:
    flag = CancelFlag()
    events = model.generate("def main", SamplingParams(max_tokens=400, ignore_eos=True), Asking(cancel=flag))
    next(events)
    started = time.perf_counter()
    threading.Timer(0.05, flag.cancel).start()
    *_, finished = events
    assert isinstance(finished, Finished)
    assert finished.finish_reason == "cancelled"
    assert time.perf_counter() - started < 0.55


def test_a_closed_model_says_so(model: LoadedModel) -> None:
    closed = LoadedModel(model.opened)
    closed.close()
    with pytest.raises(longlens.UsageError, match="closed"):
        closed.generate("x")


def test_a_prompt_and_answer_too_long_for_the_context_are_refused_before_any_work(model: LoadedModel) -> None:
    with pytest.raises(longlens.ContextLengthError, match="512"):
        model.generate("def main", SamplingParams(max_tokens=600))


@pytest.mark.cuda
def test_a_cuda_device_gives_the_logits_of_the_cpu(model: LoadedModel) -> None:
    tokens = np.load(Path(__file__).parents[1] / "golden" / "quantised.npz")["tiny-glm-F32/256/tokens"].astype(int)
    with longlens.load(str(FIXTURES / "tiny-glm-F32.gguf"), device="cuda", context=512, dtype="f32") as cuda:
        difference = (cuda.logits(tokens.tolist()).cpu() - model.logits(tokens.tolist())).abs().max()
        *_, finished = cuda.generate(PROMPT, SamplingParams(max_tokens=8, temperature=0.8, seed=1))
    assert difference <= 2e-4
    assert isinstance(finished, Finished)


def test_watching_selections_changes_no_token_and_sees_every_full_layer(model: LoadedModel) -> None:
    params = SamplingParams(max_tokens=5, ignore_eos=True)
    prompt = "def main " * 12
    seen: list[tuple[int, list[int]]] = []
    asking = Asking(on_selection=lambda layer, positions_K: seen.append((layer, positions_K.tolist())))
    answers = [[repr(event) for event in model.generate(prompt, params, each)][:-1] for each in (None, asking)]
    assert answers[0] == answers[1]
    assert model.config.indexer is not None
    assert [layer for layer, _ in seen] == list(model.config.indexer.full_layers) * 5
    num_prompt_tokens = len(model.encode(prompt).token_ids)
    assert all(max(positions) < num_prompt_tokens + 5 for _, positions in seen)
    assert {len(positions) for _, positions in seen} == {model.config.indexer.index_topk}


def test_a_session_that_read_ahead_tells_what_its_first_token_was_sampled_from(model: LoadedModel) -> None:
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    token_ids = model.encode("def main " * 12).token_ids
    told: list[list[tuple[int, list[int]]]] = []
    for reads_ahead in (True, False):
        seen: list[tuple[int, list[int]]] = []
        asking = Asking(on_selection=lambda layer, positions_K, seen=seen: seen.append((layer, positions_K.tolist())))
        with model.session() as session:
            if reads_ahead:
                session.extend(token_ids)
                with session.fork() as twin:
                    list(twin.generate(params, asking))
            else:
                session.extend(token_ids[:-1])
                session.extend(token_ids[-1:])
                list(session.generate(params, asking))
        told.append(seen)
    assert model.config.indexer is not None
    assert [layer for layer, _ in told[0]] == list(model.config.indexer.full_layers) * 2
    assert told[0] == told[1]
