from __future__ import annotations

import pytest

from longlens.plan.file_types import stored_bytes
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.published_sizes import PUBLISHED_SIZES, published_bytes

GLM_5_2 = MODEL_PRESETS["glm-5.2"].config


@pytest.mark.parametrize(
    ("file_type", "gigabytes"), [("ud-iq1_s", 217), ("ud-iq2_m", 239), ("ud-q4_k_xl", 467), ("bf16-gguf", 1508)]
)
def test_sizes_round_to_what_their_makers_write(file_type: str, gigabytes: int) -> None:
    # https://unsloth.ai/docs/models/glm-5.2: 1-bit 217GB, UD-IQ2_M 239GB, 1.51TB
    size = published_bytes("glm-5.2", file_type)
    assert size is not None
    assert round(size / 1e9) == gigabytes


@pytest.mark.parametrize(("published", "computed"), [("q8_0", "q8_0"), ("bf16-gguf", "f16"), ("fp8", "fp8")])
def test_computed_sizes_lie_within_a_per_mille_of_published_ones(published: str, computed: str) -> None:
    size = published_bytes("glm-5.2", published)
    assert size is not None
    assert sum(stored_bytes(GLM_5_2, computed).values()) == pytest.approx(size, rel=1e-3)


def test_what_is_left_between_them_is_the_indexers_of_shared_layers_and_headers() -> None:
    # Unsloth's files hold an indexer in every layer, as GLM-5.1's do.
    size = published_bytes("glm-5.2", "q8_0")
    assert size is not None
    headers = size - sum(stored_bytes(MODEL_PRESETS["glm-5.1"].config, "q8_0").values())
    assert 0 < headers < 30e6


def test_more_bits_take_more_bytes() -> None:
    ladder = [size.num_bytes for size in PUBLISHED_SIZES["glm-5.2"].values() if size.is_exact]
    assert ladder == sorted(ladder)
    assert len(ladder) == 22


def test_unknown_sizes_are_none() -> None:
    assert published_bytes("glm-5.2", "q4_k_m") is None
    assert published_bytes("glm-5", "q8_0") is None
