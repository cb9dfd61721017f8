"""A set of GLM-5.2's own size: 11 shards, 456 GB of holes."""

from __future__ import annotations

import time
from math import prod
from pathlib import Path

import pytest

from longlens.errors import FormatError, ModelNotFoundError
from longlens.formats.checkpoint import open_checkpoint
from tests.formats.make_glm_5_2_shaped import (
    FULL_LAYERS,
    NUM_PARAMETERS,
    NUM_SHARDS,
    gguf_tensors,
    huggingface_tensors,
    make_glm_5_2_shaped,
)


@pytest.fixture(scope="module")
def first_shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_5_2_shaped(tmp_path_factory.mktemp("glm-5.2"))


def test_the_huggingface_layout_sums_to_the_published_parameters() -> None:
    tensors = dict(huggingface_tensors())
    assert len(tensors) == 59_585  # the published number of tensors
    assert sum(prod(shape) for shape in tensors.values()) == NUM_PARAMETERS == 753_329_940_480


def test_full_layers_are_the_published_ones() -> None:
    assert FULL_LAYERS == (0, 1, 2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58, 62, 66, 70, 74)


def test_the_set_is_holes_and_not_456_gigabytes_on_disk(first_shard: Path) -> None:
    shards = list(first_shard.parent.iterdir())
    assert len(shards) == NUM_SHARDS == 11
    assert 455.5e9 < sum(shard.stat().st_size for shard in shards) < 456.5e9
    assert sum(shard.stat().st_blocks * 512 for shard in shards) < 64e6


def test_the_set_opens_within_a_second(first_shard: Path) -> None:
    times = []
    for _ in range(3):
        start = time.process_time()
        with open_checkpoint(first_shard) as checkpoint:
            assert len(checkpoint.tensors) > 1500
        times.append(time.process_time() - start)
    assert min(times) <= 1.0


def test_the_set_holds_every_parameter(first_shard: Path) -> None:
    with open_checkpoint(first_shard) as checkpoint:
        assert sum(tensor.num_elements for tensor in checkpoint.tensors.values()) == 753_329_940_480
        found = {(tensor.name, tensor.shape, tensor.element_type.name) for tensor in checkpoint.tensors.values()}
        assert found == set(gguf_tensors())
        assert len(checkpoint.metadata["tokenizer.ggml.tokens"]) == 154_880  # type: ignore[arg-type]
        assert sum(checkpoint.metadata["glm-dsa.attention.indexer.types"]) == 21  # type: ignore[arg-type,call-overload]


def test_an_expert_of_the_last_shard_is_read_where_it_lies(first_shard: Path) -> None:
    with open_checkpoint(first_shard) as checkpoint:
        view = checkpoint.read("blk.78.ffn_down_exps.weight")
        assert len(view) == 256 * 6144 * 2048 // 256 * 210
        assert view[-1] == 0


def test_a_shard_that_is_cut_short_is_refused(first_shard: Path) -> None:
    shard = first_shard.with_name(first_shard.name.replace("00001-of", "00007-of"))
    whole = shard.stat().st_size
    with shard.open("r+b") as file:
        file.truncate(whole - 1)
        try:
            with pytest.raises(FormatError, match=r"00007-of-00011.gguf: tensor .* ends at byte"):
                open_checkpoint(first_shard)
        finally:
            file.truncate(whole)


def test_a_shard_that_is_missing_is_named(first_shard: Path) -> None:
    shard = first_shard.with_name(first_shard.name.replace("00001-of", "00004-of"))
    away = shard.rename(shard.with_name("away"))
    try:
        with pytest.raises(ModelNotFoundError, match=r"1 of 11 shards .*-00004-of-00011.gguf"):
            open_checkpoint(first_shard)
    finally:
        away.rename(shard)
