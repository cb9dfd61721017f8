"""Our models against recorded runs of transformers and llama.cpp, and against themselves on other paths, in numbers.

The tests of this folder hold these numbers to the bounds of the table of tolerances; `make_table.py` prints them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from longlens.kernels.interface import AttentionForm, CachedRows, IndexQuery
from longlens.kernels.reference import ReferenceKernels, index_scores
from longlens.model.mla import AttentionPolicy
from longlens.model.state import SequenceChunk
from longlens.model.transformer import Transformer
from tests.agreement.fixture_models import RECORDED_AS, open_fixture
from tests.agreement.replay import Replay
from tests.golden.tiny_models import CASES
from tests.golden_models import (
    GOLDEN,
    TRANSFORMERS_LATENT_NORM_EPS,
    ListState,
    Recording,
    golden_model,
    logits_of,
    run_alone,
)
from tests.model.test_transformer import first_differing_row

LOGIT_BOUND = 2e-4
OTHER_PATH_BOUND = 1e-4
FORMS_BOUND = 1e-11
TIE_BOUND = 1e-6
FIXTURE_LENGTHS = LLAMA_CPP_LENGTHS = (64, 256)
CHUNKED_CASES = ("glm_topk8", "glm_topk48", "deepseek_topk48", "llama_llama3")
CHUNK_SIZES = (1, 7, 64)
FORMS: tuple[AttentionForm, ...] = ("absorbed", "expanded")


@dataclass(frozen=True)
class Agreement:
    """How far one of our runs is from a recorded one.

    Attributes:
        difference: largest difference of a recorded logit.
        num_other_rows: rows of any layer in which other positions or other experts were chosen.
        num_rows: rows whose choices were recorded, over all layers.
    """

    difference: float
    num_other_rows: int
    num_rows: int

    @property
    def holds(self) -> bool:
        """Whether logits agree and every choice is the same."""
        return self.difference <= LOGIT_BOUND and self.num_other_rows == 0


@cache
def recorded(name: str) -> dict[str, np.ndarray]:
    """The arrays of one file of tests/golden."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def token_ids(name: str, prefix: str) -> list[int]:
    """The tokens of one recorded sequence."""
    return [int(token) for token in recorded(name)[f"{prefix}/tokens"]]


def case_lengths() -> list[tuple[str, int]]:
    """Every committed sequence: its case and length."""
    return [(case, int(length)) for case in CASES for length in recorded(case)["lengths"]]


def agreement_of(model: Transformer, name: str, prefix: str) -> Agreement:
    """Run one recorded sequence freely and compare logits, selected positions and experts."""
    arrays, recording = recorded(name), Recording()
    hidden = run_alone(model, token_ids(name, prefix), trace=recording)
    rows = arrays[f"{prefix}/rows"].astype(int) if f"{prefix}/rows" in arrays else slice(None)
    difference = float(np.abs(model.logits(hidden[rows]).numpy() - arrays[f"{prefix}/logits"]).max())
    num_other = num_rows = 0
    for layer, theirs in choices(name, f"{prefix}/positions").items():
        num_rows += len(theirs)
        sets = [set(row.tolist()) - {-1} for row in theirs]
        num_other += sum(our != their for our, their in zip(recording.sets(layer), sets, strict=True))
    for layer, theirs in choices(name, f"{prefix}/experts").items():
        num_rows += len(theirs)
        num_other += int((recording.chosen_experts(layer) != theirs).any(1).sum())
    return Agreement(difference, num_other, num_rows)


def choices(name: str, prefix: str) -> dict[int, np.ndarray]:
    """Recorded positions or experts by layer."""
    return {int(key.rsplit("/", 1)[1]): array for key, array in recorded(name).items() if key.startswith(f"{prefix}/")}


def with_transformers(case: str, length: int) -> Agreement:
    """A golden model on a committed sequence."""
    return agreement_of(golden_model(case), case, str(length))


def with_dequantised(fixture: str, length: int) -> Agreement:
    """A fixture, opened from its file, against transformers on the same dequantised weights."""
    opened = open_fixture(fixture, TRANSFORMERS_LATENT_NORM_EPS)
    return agreement_of(opened.model, "quantised", f"{RECORDED_AS[fixture]}/{length}")


@dataclass(frozen=True)
class SeedOutcome:
    """One arbitrary sequence: how far, and where and how narrowly the first other choice was made, if one was."""

    case: str
    seed: int
    difference: float
    first_other_row: int | None = None
    gap: float | None = None


def with_arbitrary_seeds(case: str) -> list[SeedOutcome]:
    """The sequences of one case that nobody chose."""
    golden, model = recorded("arbitrary_seeds"), golden_model(case)
    outcomes = []
    for seed in golden[f"{case}/seeds"].tolist():
        prefix, recording = f"{case}/{seed}", Recording()
        hidden = run_alone(model, token_ids("arbitrary_seeds", prefix), trace=recording)
        logits = model.logits(hidden[golden[f"{prefix}/rows"].astype(int)]).numpy()
        difference = float(np.abs(logits - golden[f"{prefix}/logits"]).max())
        where = () if difference <= LOGIT_BOUND else first_differing_row(golden, case, prefix, recording)  # type: ignore[arg-type]
        outcomes.append(SeedOutcome(case, seed, difference, *where))
    return outcomes


@dataclass(frozen=True)
class LlamaCppOutcome:
    """llama.cpp's run on the F32 fixture, against ours.

    Attributes:
        replayed: largest difference of a logit when its choices are replayed.
        num_other_rows: rows in which our indexer or router, given the same inputs, would have chosen otherwise.
        num_rows: rows of all layers that choose.
        widest_gap: largest gap between the scores of the positions that only we and only they chose, relative to the
            largest score of the row.
        free: largest difference of a logit when we choose ourselves.
        num_far_rows: rows of logits that are then further than the bound.
    """

    replayed: float
    num_other_rows: int
    num_rows: int
    widest_gap: float
    free: float
    num_far_rows: int


class ScoreKeeping(ReferenceKernels):
    """Kernels that keep the index scores of every call, [T, S]."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[np.ndarray] = []

    def index_and_select(self, query: IndexQuery, keys: CachedRows, *, topk: int) -> Tensor:
        self.scores.append(index_scores(query, keys.pool_PX[keys.slots_S]).numpy())
        return super().index_and_select(query, keys, topk=topk)


def with_llama_cpp(length: int) -> LlamaCppOutcome:
    """The F32 fixture with the latent-norm eps of the file, which llama.cpp uses too."""
    kernels = ScoreKeeping()
    model = open_fixture("tiny-glm-F32.gguf", kernels=kernels).model
    tokens, theirs = token_ids("llama_cpp", str(length)), recorded("llama_cpp")[f"{length}/logits"]
    replay = Replay(choices("llama_cpp", f"{length}/positions"), choices("llama_cpp", f"{length}/experts"))
    replayed = np.abs(model.logits(run_alone(model, tokens, trace=replay)).numpy() - theirs)
    num_other, num_rows = replay.num_other_rows()
    gap = widest_gap(replay, kernels.scores)
    free = np.abs(logits_of(model, tokens).numpy() - theirs)
    num_far = int((free.max(1) > LOGIT_BOUND).sum())
    return LlamaCppOutcome(float(replayed.max()), num_other, num_rows, gap, float(free.max()), num_far)


def widest_gap(replay: Replay, scores: Sequence[np.ndarray]) -> float:
    """How clearly our scores speak against the positions that were replayed."""
    widest = 0.0
    for layer, scores_TS in zip(sorted(replay.positions), scores, strict=True):
        for row, theirs in enumerate(replay.positions[layer].tolist()):
            our, their = set(replay.own_positions[layer][row].tolist()) - {-1}, set(theirs) - {-1}
            if our != their:
                best, worst = scores_TS[row, sorted(our - their)].max(), scores_TS[row, sorted(their - our)].min()
                widest = max(widest, float(best - worst) / float(np.abs(scores_TS[row, : row + 1]).max()))
    return widest


def in_chunks(case: str, chunk: int) -> float:
    """Largest difference of any logit between a sequence read in chunks and in one step."""
    tokens, model = token_ids(case, "200"), golden_model(case)
    return largest(logits_of(model, tokens, chunk=chunk) - logits_of(model, tokens))


def beside_another(case: str) -> float:
    """Largest difference of any logit between two sequences in one step and each alone."""
    pair, model = [token_ids(case, "200"), token_ids(case, "64")], golden_model(case)
    with torch.inference_mode():
        together = model.logits(model.forward([SequenceChunk(tokens, 0, ListState()) for tokens in pair]))
    return largest(together - torch.cat([logits_of(model, tokens) for tokens in pair]))


def masked_against_gathered(case: str, form: AttentionForm, dtype: torch.dtype) -> float:
    """Largest difference of any logit between one masked form of attention and gathered rows."""
    tokens = token_ids(case, "200")
    gathered = golden_model(case, dtype=dtype, policy=AttentionPolicy(0))
    masked = golden_model(case, dtype=dtype, policy=AttentionPolicy(10**9, form))
    return largest(logits_of(gathered, tokens) - logits_of(masked, tokens))


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())
