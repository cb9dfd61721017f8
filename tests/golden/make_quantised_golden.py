"""Record transformers' logits on the weights of each GGUF fixture: quantised.npz.

    python -m tests.golden.make_quantised_golden

The weights are dequantised to float32 by gguf-py, so an engine that computes in float32 on the
same file must agree closely, whatever the quantisation cost in quality.
"""

from pathlib import Path

import numpy as np
import torch
from transformers.utils import logging

from tests.golden import gguf_weights, make_fixtures, make_transformers_golden, tiny_models, transformers_runs
from tests.golden.make_fixtures import FIXTURES

FOLDER = Path(__file__).parent
LENGTHS = [64, 256]


def fixtures() -> dict[str, list[Path]]:
    """Name of every GGUF fixture -> its files."""
    found: dict[str, list[Path]] = {}
    for file in sorted(FIXTURES.glob("*.gguf")):
        found.setdefault(file.stem.split("-0000")[0], []).append(file)
    return found


def record(name: str, files: list[Path]) -> dict[str, np.ndarray]:
    """The arrays of one fixture at each length, keyed by name and length."""
    config = make_fixtures.configs()[name.rsplit("-", 1)[0]]
    weights = gguf_weights.read(files, config)
    if name.endswith("F32"):
        check_round_trip(weights, config)
    model = transformers_runs.load(config, weights)
    arrays = {}
    for length in LENGTHS:
        seed, run, difference = make_transformers_golden.safe_run(model, config, length)
        print(f"{name} {length}: seed {seed}, margin {run.smallest_margin():.1e}, {difference:.1e}")
        tokens = tiny_models.random_tokens(seed, length, config["vocab_size"])
        found = make_transformers_golden.committed_arrays(config, tokens, run, difference)
        arrays |= {f"{name}/{key}": array for key, array in found.items()}
    return arrays


def check_round_trip(weights: tiny_models.Weights, config: tiny_models.Config) -> None:
    """The F32 file must hold exactly the numbers that went in, bf16-rounded."""
    made = tiny_models.random_weights(config, make_fixtures.SEED, residual_gain=make_fixtures.TAME)
    for key, array in made.items():
        if not np.array_equal(make_fixtures.stored(key, array).float().numpy(), weights[key]):
            raise ValueError(f"{key} changed on its way through the converter")
    if unknown := weights.keys() - made.keys():
        raise ValueError(f"the file holds {sorted(unknown)}, which nobody made")


def main() -> None:
    """Record every GGUF fixture that lies in tests/fixtures."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    arrays: dict[str, np.ndarray] = {}
    for name, files in fixtures().items():
        arrays |= record(name, files)
    np.savez_compressed(FOLDER / "quantised.npz", **arrays)


if __name__ == "__main__":
    main()
