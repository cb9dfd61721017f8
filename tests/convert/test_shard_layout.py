from pathlib import Path

import pytest

from longlens.convert.gguf_writer import TensorEntry, encode_pair
from longlens.convert.shard_layout import Shard, lay_out, shard_path
from longlens.formats.gguf import read_gguf
from longlens.formats.gguf_split import join_shards
from tests.formats.memory_source import MemorySource

PAIRS = [encode_pair("general.architecture", "llama"), encode_pair("a", "x" * 500)]
ENTRIES = [TensorEntry(f"t{number}", (4, 32), "F32") for number in range(10)]


def opened(shards: tuple[Shard, ...]) -> tuple[dict[str, object], list[str]]:
    """Metadata and tensor names, read as a model of these files whose data are zeros."""
    headers = [read_gguf(MemorySource(shard.header.ljust(shard.num_bytes, b"\0")), n) for n, shard in enumerate(shards)]
    metadata, tensors = join_shards(headers, [shard.path.name for shard in shards])
    for shard, header in zip(shards, headers, strict=True):
        assert shard.offsets[:-1] == tuple(tensor.offset for tensor in header.tensors)
    return dict(metadata), list(tensors)


def test_one_file_has_the_targets_name_and_no_split_keys() -> None:
    shards = lay_out(Path("m.gguf"), PAIRS, ENTRIES, 10**6)
    assert [shard.path for shard in shards] == [Path("m.gguf")]
    assert opened(shards) == ({"general.architecture": "llama", "a": "x" * 500}, [entry.name for entry in ENTRIES])


@pytest.mark.parametrize("most", [1800, 2100, 5000])
def test_no_file_is_larger_than_asked_for_and_together_they_are_the_model(most: int) -> None:
    shards = lay_out(Path("a/m.gguf"), PAIRS, ENTRIES, most)
    assert len(shards) > 1
    assert all(shard.num_bytes <= most for shard in shards)
    assert [shard.path for shard in shards] == [
        shard_path(Path("a/m.gguf"), n, len(shards)) for n in range(len(shards))
    ]
    metadata, names = opened(shards)
    assert names == [entry.name for entry in ENTRIES]
    assert metadata["split.count"] == len(shards)
    assert metadata["a"] == "x" * 500


def test_a_tensor_larger_than_a_file_may_be_has_one_of_its_own() -> None:
    large = TensorEntry("large", (100, 32), "F32")
    shards = lay_out(Path("m.gguf"), PAIRS, [*ENTRIES[:1], large, *ENTRIES[1:2]], 2000)
    assert [[entry.name for entry in shard.entries] for shard in shards] == [["t0"], ["large"], ["t1"]]


def test_shards_are_numbered_from_one() -> None:
    assert shard_path(Path("x/m.gguf"), 0, 11) == Path("x/m-00001-of-00011.gguf")
