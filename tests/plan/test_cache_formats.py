from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.model.state import cache_spec_of
from longlens.plan.cache_formats import cache_formats
from longlens.plan.presets import MODEL_PRESETS
from longlens.units import GIB

CONTEXTS = (8192, 65_536, 262_144, 1_048_576)


# Reference figures of GLM-5.2, as printed: bytes a token, then GiB at 8K, 64K, 256K and 1M.
TABLE = [
    ("bf16", 95_232, ("0.73", "5.81", "23.25", "93.00")),
    ("bf16, index keys on all layers", 109_824, ("0.84", "6.70", "26.81", "107.25")),
    ("bf16, fp8 index keys", 92_628, ("0.71", "5.65", "22.61", "90.46")),
    ("fp8_ds_mla, fp8 index keys", 53_940, ("0.41", "3.29", "13.17", "52.68")),
    ("fp8_ds_mla, fp8 index keys on all layers", 61_464, ("0.47", "3.75", "15.01", "60.02")),
    ("plain fp8, fp8 index keys", 47_700, ("0.36", "2.91", "11.65", "46.58")),
    ("nvfp4_ds_mla, fp8 index keys", 30_228, ("0.23", "1.84", "7.38", "29.52")),
    ("GQA 8x128, bf16", 319_488, ("2.44", "19.50", "78.00", "312.00")),
    ("GQA 8x256, bf16", 638_976, ("4.88", "39.00", "156.00", "624.00")),
    ("the same attention expanded, bf16", 5_111_808, ("39.00", "312.00", "1248.00", "4992.00")),
]


@pytest.mark.parametrize(("name", "bytes_per_token", "gib"), TABLE)
def test_glm_5_2_takes_what_the_reference_prints(name: str, bytes_per_token: int, gib: tuple[str, ...]) -> None:
    found = next(item for item in cache_formats(MODEL_PRESETS["glm-5.2"].config) if item.name == name)
    assert found.bytes_per_token == bytes_per_token
    assert tuple(f"{found.bytes_at(context) / GIB:.2f}" for context in CONTEXTS) == gib


@pytest.mark.parametrize("name", ["glm-5.2", "glm-5.2-64b", "deepseek-v3.2", "smollm2-135m", "pocket"])
def test_stored_formats_take_what_the_cache_takes(name: str) -> None:
    config = MODEL_PRESETS[name].config
    stored = {item.name: item for item in cache_formats(config) if item.is_stored}
    assert set(stored) == {"f32", "bf16"}
    for element in ("f32", "bf16"):
        spec = cache_spec_of(config, element)  # type: ignore[arg-type]
        assert stored[element].bytes_per_token == spec.bytes_per_token
        assert stored[element].index_bytes == spec.bytes_of("index_key")


def test_the_articles_geometry_takes_32000_bytes() -> None:
    found = {item.name: item.bytes_per_token for item in cache_formats(MODEL_PRESETS["glm-5.2-64b"].config)}
    assert found["bf16"] == 32_000


def test_int8_rows_carry_one_scale_each() -> None:
    found = {item.name: item for item in cache_formats(MODEL_PRESETS["glm-5.2"].config)}
    int8 = found["int8 with a scale a row, int8 index keys"]
    assert (int8.row_bytes, int8.index_bytes) == (78 * (576 + 4), 21 * (128 + 4))


def test_a_model_that_shares_nothing_gains_nothing_by_keys_on_full_layers_only() -> None:
    found = {item.name: item.bytes_per_token for item in cache_formats(MODEL_PRESETS["glm-5"].config)}
    assert found["bf16"] == found["bf16, index keys on all layers"] == 109_824


@given(st.sampled_from(sorted(MODEL_PRESETS)), st.integers(0, 2**20), st.integers(0, 2**20))
def test_more_context_and_wider_formats_never_take_less(name: str, context: int, more: int) -> None:
    found = cache_formats(MODEL_PRESETS[name].config)
    by_name = {item.name: item.bytes_per_token for item in found}
    assert all(item.bytes_at(context) <= item.bytes_at(context + more) for item in found)
    assert by_name["f32"] == 2 * by_name["bf16"]
    assert all(value <= by_name["f32"] for key, value in by_name.items() if "GQA" not in key and "expanded" not in key)
