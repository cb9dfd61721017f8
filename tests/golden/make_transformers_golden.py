"""Record what transformers computes on the tiny models: `<case>.npz` and `arbitrary_seeds.npz`.

    python -m tests.golden.make_transformers_golden [case ...]

Two kinds of sequences. *Committed* ones are found by trying token seeds until no row of any layer
lies within `SAFE_MARGIN` of another set of positions, experts or groups, and until transformers
in float64 chooses the same: a correct implementation must agree on them everywhere. *Arbitrary*
ones are taken as they come; there a rounding difference may flip a near-tie, and the recorded
margins tell where.

Versions, layout of the arrays and how they are used: README.md beside this file.
"""

import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from tests.golden import tiny_models, transformers_runs
from tests.golden.transformers_runs import Run

FOLDER = Path(__file__).parent
SAFE_MARGIN = 3e-6
MOST_SEEDS = 2000

LENGTHS: dict[str, list[int]] = {
    "glm_topk8": [1, 2, 7, 8, 9, 47, 64, 200, 512, 1024],
    "glm_topk48": [1, 47, 48, 49, 64, 200, 512],
    "glm_topk4096": [1, 2, 64, 200, 1024],
    "glm_tame": [64, 200, 512],
    "deepseek_topk8": [1, 2, 7, 8, 9, 64, 200, 384],
    "deepseek_topk48": [1, 47, 48, 49, 64, 200, 320],
    "llama_tied": [1, 2, 7, 64, 200, 1024],
    "llama_llama3": [1, 64, 200, 1024],
    "llama_bias": [1, 64, 200, 512],
}
"""Around index_topk: one less, the same, one more.

Near-ties grow with the square of the length and with index_topk: among sequences of 1,024 tokens
with index_topk 48 about one in 100,000 has none, so those stop earlier.
"""

INPUT_LENGTHS = {"glm_topk48": 200}
"""The length at which a case records what its full layers read; 64 where absent."""

ARBITRARY: dict[str, list[int]] = {
    "glm_topk8": list(range(9000, 9008)),
    "glm_topk48": list(range(9100, 9108)),
    "deepseek_topk8": list(range(9200, 9204)),
    "deepseek_topk48": list(range(9300, 9304)),
}
ARBITRARY_LENGTH = 200


def record_case(case: str) -> None:
    """Search and write the committed sequences of one case."""
    config = tiny_models.CASES[case]
    weights = tiny_models.case_weights(case)
    model = transformers_runs.load(config, weights)
    arrays = {"weights_crc32": np.uint32(tiny_models.checksum(weights))}
    seeds = []
    for length in LENGTHS[case]:
        seed, run, difference = safe_run(model, config, length)
        seeds.append(seed)
        print(f"{case} {length}: seed {seed}, margin {run.smallest_margin():.2e}, {difference:.1e}")
        tokens = tiny_models.random_tokens(seed, length, config["vocab_size"])
        arrays |= committed_arrays(config, tokens, run, difference)
        if length == INPUT_LENGTHS.get(case, 64):
            arrays |= input_arrays(length, run)
    arrays["lengths"] = np.array(LENGTHS[case], dtype=np.int16)
    arrays["seeds"] = np.array(seeds, dtype=np.int64)
    np.savez_compressed(FOLDER / f"{case}.npz", **arrays)


def safe_run(model: PreTrainedModel, config: tiny_models.Config, length: int) -> tuple[int, Run, float]:
    """Find the first token seed whose choices are clear, and that float64 confirms.

    Returns:
        seed, the run in float32, and the largest difference of a logit from the run in float64.
    """
    precise = deepcopy(model).double()
    for seed in range(length, length + MOST_SEEDS):
        tokens = tiny_models.random_tokens(seed, length, config["vocab_size"])
        run = transformers_runs.run(model, tokens)
        if run.smallest_margin() < SAFE_MARGIN:
            continue
        other = transformers_runs.run(precise, tokens)
        if same_choices(run, other):
            return seed, run, float(np.abs(run.logits - other.logits).max())
    raise ValueError(f"no clear sequence of {length} tokens among {MOST_SEEDS} seeds")


def same_choices(one: Run, other: Run) -> bool:
    """Say whether two runs chose the same positions and experts everywhere."""
    pairs = [(one.positions, other.positions), (one.experts, other.experts)]
    return all(np.array_equal(a[layer], b[layer]) for a, b in pairs for layer in a)


def committed_arrays(
    config: tiny_models.Config, tokens: np.ndarray, run: Run, difference: float
) -> dict[str, np.ndarray]:
    """The arrays of one committed sequence, keyed by its length."""
    length = len(tokens)
    rows = interesting_rows(length, config.get("index_topk", length))
    arrays = {
        "tokens": tokens.astype(np.int16),
        "rows": rows,
        "logits": run.logits[rows],
        "margin": np.float32(run.smallest_margin()),
        "float64_difference": np.float32(difference),
    }
    if config.get("index_topk", 0) < 64 or length <= 64:
        arrays |= {f"positions/{layer}": array for layer, array in run.positions.items()}
    arrays |= {f"experts/{layer}": array for layer, array in run.experts.items()}
    return {f"{length}/{key}": array for key, array in arrays.items()}


def interesting_rows(length: int, topk: int) -> np.ndarray:
    """Rows whose logits are kept: the first, those around index_topk and twice it, the last."""
    wanted = [0, 1, topk - 1, topk, topk + 1, 2 * topk, length // 2, length - 2, length - 1]
    return np.array(sorted({row for row in wanted if 0 <= row < length}), dtype=np.int16)


def input_arrays(length: int, run: Run) -> dict[str, np.ndarray]:
    """What each full layer's attention and indexer read, for tests of one layer alone."""
    arrays = {"inputs/length": np.int16(length)}
    arrays |= {f"inputs/attention/{layer}": a for layer, a in run.attention_inputs.items()}
    return arrays | {f"inputs/query_latent/{layer}": a for layer, a in run.query_latents.items()}


def record_arbitrary() -> None:
    """Write the sequences that nobody chose, with the margin of every row."""
    arrays: dict[str, np.ndarray] = {}
    for case, seeds in ARBITRARY.items():
        config = tiny_models.CASES[case]
        model = transformers_runs.load(config, tiny_models.case_weights(case))
        arrays[f"{case}/seeds"] = np.array(seeds, dtype=np.int64)
        for seed in seeds:
            tokens = tiny_models.random_tokens(seed, ARBITRARY_LENGTH, config["vocab_size"])
            run = transformers_runs.run(model, tokens)
            found = arbitrary_arrays(tokens, run)
            arrays |= {f"{case}/{seed}/{key}": array for key, array in found.items()}
    np.savez_compressed(FOLDER / "arbitrary_seeds.npz", **arrays)


def arbitrary_arrays(tokens: np.ndarray, run: Run) -> dict[str, np.ndarray]:
    """The arrays of one arbitrary sequence; margins are stacked in the order of the layers."""
    rows = np.arange(len(tokens) - 4, len(tokens), dtype=np.int16)
    arrays = {"tokens": tokens.astype(np.int16), "rows": rows, "logits": run.logits[rows]}
    arrays |= {f"positions/{layer}": array for layer, array in run.positions.items()}
    arrays |= {f"experts/{layer}": array for layer, array in run.experts.items()}
    arrays["selection_margins"] = np.stack(list(run.selection_margins.values()))
    arrays["router_margins"] = np.stack(list(run.router_margins.values()))
    return arrays


def main() -> None:
    """Record the cases named on the command line, or all of them and the arbitrary sequences."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the order of sums, and so the last bit, depends on it
    cases = sys.argv[1:] or [*LENGTHS, "arbitrary_seeds"]
    for case in cases:
        record_arbitrary() if case == "arbitrary_seeds" else record_case(case)


if __name__ == "__main__":
    main()
