"""Open checkpoints of both layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from longlens.errors import FormatError, ModelNotFoundError, ParameterError, UsageError
from longlens.formats.checkpoint import Checkpoint, gguf_checkpoint, open_checkpoint, safetensors_checkpoint
from longlens.formats.file_set import FileSet
from tests.formats.gguf_bytes import STRING, Value, gguf
from tests.formats.memory_source import MemorySource
from tests.formats.safetensors_bytes import safetensors

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face folder of two shards."""
    (tmp_path / "config.json").write_text('{"model_type": "glm_moe_dsa"}')
    (tmp_path / "x-1.safetensors").write_bytes(safetensors({"a": ((2,), "F32"), "b": ((3,), "BF16")}))
    (tmp_path / "x-2.safetensors").write_bytes(safetensors({"c": ((2, 2), "F8_E4M3")}))
    weight_map = {"a": "x-1.safetensors", "b": "x-1.safetensors", "c": "x-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path


def from_memory(first: bytes, second: bytes, weight_map: dict[str, str]) -> Checkpoint:
    files = FileSet("safetensors", (Path("x"), Path("y")), weight_map)
    return safetensors_checkpoint(Path("m"), files, [MemorySource(first), MemorySource(second)], {})


def test_a_huggingface_folder_opens(folder: Path) -> None:
    with open_checkpoint(folder) as checkpoint:
        assert (checkpoint.path, checkpoint.layout) == (folder, "safetensors")
        assert checkpoint.metadata == {"model_type": "glm_moe_dsa"}
        assert [shard.name for shard in checkpoint.shards] == ["x-1.safetensors", "x-2.safetensors"]
        assert {name: tensor.shard for name, tensor in checkpoint.tensors.items()} == {"a": 0, "b": 0, "c": 1}
        assert bytes(checkpoint.read("c")) == b"\x01" * 4
        assert checkpoint.total_bytes == 8 + 6 + 4


def test_a_single_shard_opens_the_folder_it_belongs_to(folder: Path) -> None:
    with open_checkpoint(folder / "x-2.safetensors") as checkpoint:
        assert list(checkpoint.tensors) == ["a", "b", "c"]
        assert checkpoint.side_file("config.json") is not None


def test_the_tensors_of_a_real_folder_are_those_of_the_safetensors_package() -> None:
    with open_checkpoint(FIXTURES / "tiny-glm") as checkpoint:
        assert checkpoint.metadata["model_type"] == "glm_moe_dsa"
        count = 0
        for shard in checkpoint.shards:
            with safe_open(shard, framework="pt") as theirs:
                for name in theirs.keys():  # noqa: SIM118
                    expected = theirs.get_tensor(name).contiguous()
                    assert bytes(checkpoint.read(name)) == bytes(expected.untyped_storage()), name
                    count += 1
        assert count == len(checkpoint.tensors)


@pytest.mark.parametrize("shard", [1, 2])
def test_a_split_gguf_opens_from_any_shard(shard: int) -> None:
    with open_checkpoint(FIXTURES / f"tiny-glm-Q8_0-{shard:05d}-of-00002.gguf") as checkpoint:
        assert checkpoint.layout == "gguf"
        assert len(checkpoint.shards) == 2
        assert checkpoint.metadata["general.architecture"] == "glm-dsa"
        assert {tensor.shard for tensor in checkpoint.tensors.values()} == {0, 1}
        assert len(checkpoint.tensors) == checkpoint.metadata["split.tensors.count"]
        assert all(len(checkpoint.read(name)) == tensor.num_bytes for name, tensor in checkpoint.tensors.items())


def test_a_folder_with_one_gguf_opens_and_has_no_side_files(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf({"general.architecture": Value(STRING, "llama")}, {"a": ((2,), "F32")}))
    (tmp_path / "tokenizer.json").write_text("{}")
    with open_checkpoint(tmp_path) as checkpoint:
        assert (checkpoint.path, checkpoint.shards) == (tmp_path, (tmp_path / "m.gguf",))
        assert bytes(checkpoint.read("a")) == b"\x01" * 8
        assert checkpoint.side_file("tokenizer.json") is None


def test_reading_is_a_view_that_outlives_the_checkpoint(folder: Path) -> None:
    with open_checkpoint(folder) as checkpoint:
        view = checkpoint.read("a")
        assert view.readonly
    assert np.frombuffer(view, np.uint8).tolist() == [1] * 8
    with pytest.raises(UsageError, match="closed"):
        checkpoint.read("a")


def test_a_tensor_that_is_not_there_names_the_nearest(folder: Path) -> None:
    with open_checkpoint(FIXTURES / "tiny-glm") as checkpoint, pytest.raises(ParameterError) as caught:
        checkpoint.read("model.layers.0.input_layernrom.weight")
    assert "input_layernrom" in caught.value.fault
    assert "'model.layers.0.input_layernorm.weight'" in caught.value.mend


def test_side_files_are_read_and_missing_ones_are_none(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.side_file("tokenizer.json") == b"{}"
        assert checkpoint.side_file("chat_template.jinja") is None


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/file", "..", ""])
def test_a_side_file_does_not_leave_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("x")
    with open_checkpoint(folder) as checkpoint, pytest.raises(UsageError, match="not the name of a file"):
        checkpoint.side_file(name)


def test_side_files_may_be_links_as_in_the_hub_cache(folder: Path) -> None:
    blob = folder.parent / f"{folder.name}-blob"
    blob.write_text("{}")
    (folder / "tokenizer.json").symlink_to(blob)
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.side_file("tokenizer.json") == b"{}"


def test_weights_without_a_config_are_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json"):
        open_checkpoint(folder)


def test_a_config_that_is_no_object_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("[]")
    with pytest.raises(FormatError, match=r"config\.json is a JSON list"):
        open_checkpoint(folder)


def test_a_missing_folder_names_the_nearest(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=f"did you mean {folder}"):
        open_checkpoint(folder.with_name(folder.name + "x"))


def test_an_index_that_promises_what_no_shard_holds_is_refused() -> None:
    data = safetensors({"a": ((1,), "F32")})
    with pytest.raises(FormatError, match="puts tensor 'b' into y, which does not hold it"):
        from_memory(data, safetensors({}), {"a": "x", "b": "y"})
    with pytest.raises(FormatError, match="puts tensor 'a' into y, which does not hold it"):
        from_memory(data, safetensors({}), {"a": "y"})


def test_of_two_copies_the_one_that_the_index_names_counts() -> None:
    data = safetensors({"a": ((1,), "F32")})
    assert from_memory(data, data, {"a": "y"}).tensors["a"].shard == 1
    assert from_memory(data, data, {"a": "x"}).tensors["a"].shard == 0


def test_two_copies_that_the_index_does_not_name_are_refused() -> None:
    data = safetensors({"a": ((1,), "F32")})
    with pytest.raises(FormatError, match="'a' is in x and in y"):
        from_memory(data, data, {})


def test_a_tensor_that_the_index_forgot_is_kept() -> None:
    first, second = safetensors({"a": ((1,), "F32"), "b": ((1,), "F32")}), safetensors({"c": ((1,), "F32")})
    assert sorted(from_memory(first, second, {"a": "x", "c": "y"}).tensors) == ["a", "b", "c"]


def test_a_gguf_opens_from_any_byte_source() -> None:
    source = MemorySource(gguf({}, {"a": ((2,), "F32")}))
    checkpoint = gguf_checkpoint(Path("remote"), (Path("m.gguf"),), [source])
    assert bytes(checkpoint.read("a")) == b"\x01" * 8


def test_files_are_closed_when_opening_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr("longlens.formats.mapped_file.MappedFile.close", lambda self: closed.append(self.path.name))
    (folder / "x-2.safetensors").write_bytes(b"damaged")
    with pytest.raises(FormatError):
        open_checkpoint(folder)
    assert {"x-1.safetensors", "x-2.safetensors"} <= set(closed)
