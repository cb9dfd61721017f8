"""Split GGUF sets: their names, and the keys that number them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from longlens.errors import FormatError, ModelNotFoundError
from longlens.formats.element_types import ElementType
from longlens.formats.gguf import GgufHeader
from longlens.formats.gguf_split import join_shards, shard_group, shard_paths
from longlens.formats.tensors import TensorInfo


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"model-Q4-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
    for path in paths:
        path.touch()
    return paths


def shard(number: int, names: str, metadata: Mapping[str, object]) -> GgufHeader:
    kind = ElementType("F32", 1, 4)
    return GgufHeader(3, metadata, tuple(TensorInfo(name, (1,), kind, number, 0, 4) for name in names))


def split(number: int, count: int, total: int, **more: object) -> dict[str, object]:
    return {"split.no": number, "split.count": count, "split.tensors.count": total, **more}


@pytest.mark.parametrize("start", [0, 1, 2])
def test_any_shard_leads_to_the_whole_set_in_order(shards: list[Path], start: int) -> None:
    assert shard_paths(shards[start]) == tuple(shards)


@pytest.mark.parametrize(
    "name", ["model.gguf", "model-1-of-3.gguf", "model-00001-of-00003.bin", "-00001-of-00003.gguf"]
)
def test_a_file_of_another_name_is_alone(tmp_path: Path, name: str) -> None:
    assert shard_paths(tmp_path / name) == (tmp_path / name,)


def test_missing_shards_are_named(shards: list[Path]) -> None:
    shards[0].unlink()
    shards[2].unlink()
    with pytest.raises(ModelNotFoundError) as caught:
        shard_paths(shards[1])
    assert "2 of 3 shards" in caught.value.fault
    assert shards[0].name in caught.value.fault
    assert shards[2].name in caught.value.fault


def test_a_set_of_99999_is_missed_without_listing_it(tmp_path: Path) -> None:
    (tmp_path / "m-00001-of-99999.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=r"99998 of 99999 shards .* and 99990 more"):
        shard_paths(tmp_path / "m-00001-of-99999.gguf")


@pytest.mark.parametrize("name", ["m-00003-of-00002.gguf", "m-00000-of-00002.gguf", "m-00001-of-00000.gguf"])
def test_a_name_that_counts_wrong_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match="is named as shard"):
        shard_paths(tmp_path / name)


def test_shards_of_one_set_are_one_group() -> None:
    groups = {shard_group(Path(name)) for name in ("a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "b.gguf")}
    assert groups == {"a-*-of-00002.gguf", "b.gguf"}


def test_joining_takes_the_first_shards_metadata_and_every_tensor() -> None:
    headers = [shard(0, "ab", split(0, 2, 3, arch="glm-dsa")), shard(1, "c", split(1, 2, 3))]
    metadata, tensors = join_shards(headers, ["x", "y"])
    assert metadata["arch"] == "glm-dsa"
    assert {name: tensor.shard for name, tensor in tensors.items()} == {"a": 0, "b": 0, "c": 1}


@pytest.mark.parametrize("metadata", [{}, {"split.no": 0, "split.count": 0}, {"split.no": 0, "split.count": 1}])
def test_a_file_that_is_not_split_is_alone(metadata: dict[str, object]) -> None:
    assert list(join_shards([shard(0, "a", metadata)], ["x"])[1]) == ["a"]


def test_a_renamed_shard_of_a_set_is_refused() -> None:
    with pytest.raises(FormatError, match="says it is shard 2 of 3, opened as 1 of 1"):
        join_shards([shard(0, "a", split(1, 3, 9))], ["x"])


def test_shards_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(FormatError, match="x says it is shard 2 of 2, opened as 1 of 2"):
        join_shards([shard(0, "a", split(1, 2, 2)), shard(1, "b", split(0, 2, 2))], ["x", "y"])


def test_shards_without_numbers_are_refused() -> None:
    with pytest.raises(FormatError, match="says it is shard 1 of 1, opened as 1 of 2"):
        join_shards([shard(0, "a", {}), shard(1, "b", {})], ["x", "y"])


def test_numbers_of_a_wrong_kind_are_refused() -> None:
    with pytest.raises(FormatError, match="says it is shard <str> of 2"):
        join_shards([shard(0, "a", {"split.no": "first", "split.count": 2}), shard(1, "b", {})], ["x", "y"])


def test_a_tensor_in_two_shards_is_refused() -> None:
    with pytest.raises(FormatError, match="'a' is in x and in y"):
        join_shards([shard(0, "a", split(0, 2, 2)), shard(1, "a", split(1, 2, 2))], ["x", "y"])


def test_a_set_that_holds_fewer_tensors_than_announced_is_refused() -> None:
    with pytest.raises(FormatError, match="announces 3 tensors, its shards hold 2"):
        join_shards([shard(0, "a", split(0, 2, 3)), shard(1, "b", split(1, 2, 3))], ["x", "y"])
