"""What a run reports about itself: bits per byte, answers, a few samples."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from training.pocket.loader import draw_batch
from training.pocket.model import TrainableModel
from training.pocket.packs import Packer, Recipe
from training.pocket.shelf import Shelf, Vocabulary

TOKENS_A_CALL = 16384


def held_out_tokens(shelf: Shelf, vocabulary: Vocabulary, most: int) -> np.ndarray:
    """Running text for bits per byte: whole files in a fixed random order, each after an end-of-text token."""
    order = list(range(shelf.num_files))
    random.Random(17).shuffle(order)
    runs, total = [], 0
    for file in order:
        first, last = shelf.file_line[file], shelf.file_line[file + 1]
        run = shelf.tokens[shelf.line_start[first] : shelf.line_start[last]]
        runs += [np.array([vocabulary.control["<|endoftext|>"]], np.uint16), run]
        total += len(run) + 1
        if total >= most:
            break
    return np.concatenate(runs)[:most]


@torch.no_grad()
def bits_per_byte(
    model: TrainableModel, tokens: np.ndarray, vocabulary: Vocabulary, window: int, topk: int | None
) -> float:
    """Cross-entropy of running text, cut into windows that know nothing of each other, in bits a byte of text."""
    device = model.parameters["model.norm.weight"].device
    windows = torch.from_numpy(tokens[: len(tokens) // window * window].astype(np.int64)).view(-1, window)
    sizes = torch.from_numpy(vocabulary.num_bytes).to(device)
    nats = num_bytes = 0.0
    for some in windows.split(max(1, TOKENS_A_CALL // window)):
        ids = some.to(device)
        positions = torch.arange(window, device=device).expand_as(ids)
        targets = ids.roll(-1, 1)
        loss = model.losses(model.forward(ids, positions, topk=topk).hidden_ND, targets.flatten()).view_as(ids)
        is_text = (sizes[targets] > 0)[:, :-1]
        nats += float(loss[:, :-1][is_text].double().sum())
        num_bytes += float(sizes[targets][:, :-1].sum())
    return nats / math.log(2) / num_bytes


@torch.no_grad()
def answers(
    model: TrainableModel, packer: Packer, setting: tuple[int, int, float], topk: int | None, *, renamed: float = 0.0
) -> dict[str, float]:
    """Share of "where" questions about fresh packs whose whole answer is the most likely one, token for token.

    Args:
        model: an uncompiled model.
        packer: of the held-out packages.
        setting: (tokens, packs, share of skeleton packs).
        topk: the model's own selection, or None for all positions.
        renamed: share of names that are replaced.
    """
    tokens, packs, skeleton = setting
    recipe = Recipe(tokens, skeleton=skeleton, plain=0, renamed=renamed, absent=0, span=0, is_test=True)
    generator = random.Random(tokens)
    right = asked = 0
    device = model.parameters["model.norm.weight"].device
    for _ in range(0, packs, size := max(1, TOKENS_A_CALL // tokens)):
        batch = draw_batch(packer, recipe, size, generator)
        ids = torch.from_numpy(batch["ids"]).to(device)
        hidden = model.forward(ids[:, :-1], torch.from_numpy(batch["positions"]).to(device), topk=topk).hidden_ND
        is_answer = torch.from_numpy(batch["answer"]).bool().to(device)[:, 1:]
        guesses = model.logits(hidden[is_answer.flatten()]).argmax(-1)
        for is_right in _answers(is_answer, (guesses == ids[:, 1:][is_answer])):
            asked += 1
            right += is_right
    return {"right": right, "asked": asked, "share": right / max(1, asked)}


def _answers(is_answer: Tensor, is_right: Tensor) -> Iterator[bool]:
    """Whether each run of answer tokens is right throughout; a run that the example's end cuts is left out."""
    hits = iter(is_right.tolist())
    for row in is_answer.tolist():
        run: list[bool] = []
        for inside in row:
            if inside:
                run.append(next(hits))
            elif run:
                yield all(run)
                run = []


@torch.no_grad()
def sample(model: TrainableModel, prompt: list[int], count: int, temperature: float, topk: int | None) -> list[int]:
    """Continue a prompt by recomputing it for every token."""
    device = model.parameters["model.norm.weight"].device
    generator = torch.Generator(device).manual_seed(3)
    ids = list(prompt)
    for _ in range(count):
        given = torch.tensor([ids], device=device)
        hidden = model.forward(given, torch.arange(len(ids), device=device)[None], topk=topk).hidden_ND
        logits = model.logits(hidden[-1])
        if temperature:
            ids.append(int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)))
        else:
            ids.append(int(logits.argmax()))
    return ids[len(prompt) :]
