"""Our models against transformers' recorded logits, selections and expert choices (docs/agreement.md)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from longlens.errors import CancelledError, UsageError
from longlens.model.mla import AttentionPolicy
from longlens.model.state import SequenceChunk
from tests.golden.tiny_models import CASES, case_weights, full_layers
from tests.golden_models import GOLDEN, ListState, Recording, golden_model, logits_of, run_alone

LOGIT_BOUND = 2e-4
OTHER_PATH_BOUND = 1e-4


def recorded_lengths() -> list[tuple[str, int]]:
    pairs = []
    for case in CASES:
        if (GOLDEN / f"{case}.npz").exists():
            with np.load(GOLDEN / f"{case}.npz") as golden:
                pairs += [(case, int(length)) for length in golden["lengths"]]
    return pairs


@pytest.mark.parametrize(("case", "length"), recorded_lengths())
def test_logits_and_choices_equal_those_of_transformers(case: str, length: int) -> None:
    golden = np.load(GOLDEN / f"{case}.npz")
    tokens = golden[f"{length}/tokens"].astype(int).tolist()
    model, recording = golden_model(case), Recording()
    hidden = run_alone(model, tokens, trace=recording)

    for key in golden.files:
        if key.startswith(f"{length}/positions/"):
            ours = recording.sets(int(key.rsplit("/", 1)[1]))
            theirs = [set(row.tolist()) - {-1} for row in golden[key]]
            assert ours == theirs, f"selections of {key}"
        if key.startswith(f"{length}/experts/"):
            np.testing.assert_array_equal(recording.chosen_experts(int(key.rsplit("/", 1)[1])), golden[key])
    rows = golden[f"{length}/rows"].astype(int)
    difference = np.abs(model.logits(hidden[rows]).numpy() - golden[f"{length}/logits"]).max()
    assert difference <= LOGIT_BOUND


def test_golden_data_covers_every_case() -> None:
    recorded = {case for case, _ in recorded_lengths()}
    assert {"glm_topk8", "glm_topk48", "glm_topk4096", "deepseek_topk8", "deepseek_topk48"} <= recorded
    assert {"llama_tied", "llama_llama3", "llama_bias"} <= recorded


@pytest.mark.parametrize("case", ["glm_topk8", "deepseek_topk48", "llama_llama3"])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_any_chunk_size_gives_the_same_logits(case: str, chunk: int) -> None:
    tokens = np.load(GOLDEN / f"{case}.npz")["200/tokens"].astype(int).tolist()
    model = golden_model(case)
    difference = (logits_of(model, tokens, chunk=chunk) - logits_of(model, tokens)).abs().max()
    assert difference <= OTHER_PATH_BOUND


def test_sequences_sharing_a_step_get_the_logits_they_get_alone() -> None:
    golden = np.load(GOLDEN / "glm_topk8.npz")
    long, short = (golden[f"{length}/tokens"].astype(int).tolist() for length in (200, 47))
    model = golden_model("glm_topk8")
    with torch.inference_mode():
        together = model.forward([SequenceChunk(long, 0, ListState()), SequenceChunk(short, 0, ListState())])
        logits = model.logits(together)
    alone = torch.cat([logits_of(model, long), logits_of(model, short)])
    assert (logits - alone).abs().max() <= OTHER_PATH_BOUND


@pytest.mark.parametrize("form", ["absorbed", "expanded"])
def test_absorbed_and_expanded_forms_agree_to_rounding_in_float64(form: str) -> None:
    tokens = np.load(GOLDEN / "glm_topk8.npz")["200/tokens"].astype(int).tolist()
    gathered = golden_model("glm_topk8", dtype=torch.float64, policy=AttentionPolicy(0))
    masked = golden_model("glm_topk8", dtype=torch.float64, policy=AttentionPolicy(10**9, form))
    difference = (logits_of(gathered, tokens) - logits_of(masked, tokens)).abs().max()
    assert difference <= 1e-11


def test_a_topk_above_the_context_equals_dense_attention_bit_for_bit() -> None:
    tokens = np.load(GOLDEN / "glm_topk4096.npz")["64/tokens"].astype(int).tolist()
    selecting = golden_model("glm_topk4096", policy=AttentionPolicy(10**9, "expanded"), index_topk=64)
    dense = golden_model("glm_topk4096", policy=AttentionPolicy(10**9, "expanded"))
    assert torch.equal(logits_of(selecting, tokens), logits_of(dense, tokens))


def test_sparse_attention_is_felt_beyond_topk_and_only_there() -> None:
    tokens = np.load(GOLDEN / "glm_topk8.npz")["200/tokens"].astype(int).tolist()
    sparse = logits_of(golden_model("glm_topk8"), tokens)
    dense = logits_of(golden_model("glm_topk8", index_topk=4096), tokens)
    assert (sparse[:8] - dense[:8]).abs().max() <= OTHER_PATH_BOUND
    assert (sparse[100:] - dense[100:]).abs().max() > 0.1


def test_arbitrary_seeds_agree_but_for_ties_within_rounding() -> None:
    golden = np.load(GOLDEN / "arbitrary_seeds.npz")
    outcomes: dict[str, bool] = {}
    for case in sorted({key.split("/")[0] for key in golden.files}):
        for seed in golden[f"{case}/seeds"]:
            outcomes[f"{case}/{seed}"] = agrees_or_explains(golden, case, f"{case}/{seed}")
    assert len(outcomes) >= 8
    assert sum(outcomes.values()) >= 0.9 * len(outcomes)


def agrees_or_explains(golden: np.lib.npyio.NpzFile, case: str, prefix: str) -> bool:
    """Whether logits agree; if not, the first differing row must be a tie within 1e-6 (relative)."""
    tokens = golden[f"{prefix}/tokens"].astype(int).tolist()
    model, recording = golden_model(case), Recording()
    hidden = run_alone(model, tokens, trace=recording)
    rows = golden[f"{prefix}/rows"].astype(int)
    difference = np.abs(model.logits(hidden[rows]).numpy() - golden[f"{prefix}/logits"]).max()
    if difference <= LOGIT_BOUND:
        return True
    row, gap = first_differing_row(golden, case, prefix, recording)
    print(f"{prefix}: |difference| {difference:.2e}, first differing row {row}, relative gap {gap:.2e}")
    assert gap <= 1e-6
    return False


def first_differing_row(
    golden: np.lib.npyio.NpzFile, case: str, prefix: str, recording: Recording
) -> tuple[int, float]:
    found = []
    for number, layer in enumerate(full_layers(CASES[case])):
        theirs = [set(row.tolist()) - {-1} for row in golden[f"{prefix}/positions/{layer}"]]
        margins = golden[f"{prefix}/selection_margins"][number]
        for row, (our, their) in enumerate(zip(recording.sets(layer), theirs, strict=True)):
            if our != their:
                found.append((layer, row, float(margins[row])))
                break
    for number, layer in enumerate(sorted(recording.expert_ids)):
        margins = golden[f"{prefix}/router_margins"][number]
        wrong = np.flatnonzero((recording.chosen_experts(layer) != golden[f"{prefix}/experts/{layer}"]).any(1))
        if wrong.size:
            found.append((layer, int(wrong[0]), float(margins[wrong[0]])))
    assert found, f"{prefix}: logits differ, but no choice does"
    _, row, gap = min(found)
    return row, gap


def test_a_cancelled_step_stops_between_layers() -> None:
    asked = iter([False, False, True])
    with pytest.raises(CancelledError):
        golden_model("glm_topk8").forward([SequenceChunk([1, 2, 3], 0, ListState())], is_cancelled=lambda: next(asked))


@pytest.mark.parametrize(("token_ids", "shown"), [([5, 320], "320"), ([-1], "-1"), ([], "no token")])
def test_token_ids_outside_of_the_vocabulary_are_refused(token_ids: list[int], shown: str) -> None:
    with pytest.raises(UsageError, match=shown):
        golden_model("glm_topk8").forward([SequenceChunk(token_ids, 0, ListState())])


def test_every_weight_of_a_golden_case_is_used() -> None:
    used = set()

    class Spy(dict):  # type: ignore[type-arg]
        def __getitem__(self, name: str) -> np.ndarray:
            used.add(name)
            return super().__getitem__(name)

    from longlens.kernels.reference import ReferenceKernels
    from longlens.model.build import RunChoices, build_model
    from tests.golden_models import ArrayStore, golden_config

    config = golden_config("glm_topk8")
    weights = case_weights("glm_topk8")
    build_model(config, ArrayStore(config, Spy(weights), torch.float32), ReferenceKernels(), RunChoices("f32"))
    assert used == set(weights)
