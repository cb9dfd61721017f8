import json
import shutil
from pathlib import Path

import pytest
import torch

import longlens
from longlens.convert.to_gguf import convert_to_gguf
from longlens.errors import ConfigError, UsageError
from longlens.formats.checkpoint import open_checkpoint
from longlens.kernels.packed import pack

FIXTURES = Path(__file__).parents[1] / "fixtures"
SOURCE = FIXTURES / "tiny-glm"


def test_an_f32_file_equals_llama_cpps_to_the_byte(tmp_path: Path) -> None:
    target = tmp_path / "ours.gguf"
    written = convert_to_gguf(SOURCE, target, "F32", name="Tiny Glm")
    assert written.num_bytes == target.stat().st_size
    assert (written.kept_wider, written.left_out) == ((), ())
    with open_checkpoint(target) as ours, open_checkpoint(FIXTURES / "tiny-glm-F32.gguf") as theirs:
        assert ours.tensors.keys() == theirs.tensors.keys()
        for name, info in theirs.tensors.items():
            assert ours.tensors[name].shape == info.shape, name
            assert bytes(ours.read(name)) == bytes(theirs.read(name)), name
        unwritten = {"general.size_label", "tokenizer.ggml.add_eos_token"}
        assert {key: ours.metadata.get(key) for key in theirs.metadata if key not in unwritten} == {
            key: value for key, value in theirs.metadata.items() if key not in unwritten
        }


def test_a_q8_0_file_holds_the_blocks_of_llama_cpps_quantiser(tmp_path: Path) -> None:
    target = tmp_path / "ours.gguf"
    convert_to_gguf(SOURCE, target, "Q8_0", name="tiny")
    shared = 0
    shard = FIXTURES / "tiny-glm-Q8_0-00001-of-00002.gguf"
    with open_checkpoint(target) as ours, open_checkpoint(shard) as theirs:
        assert ours.tensors.keys() == theirs.tensors.keys()
        for name, info in theirs.tensors.items():
            if info.element_type == ours.tensors[name].element_type:
                assert bytes(ours.read(name)) == bytes(theirs.read(name)), name
                shared += info.element_type.name == "Q8_0"
    assert shared > 50


@pytest.mark.parametrize("length", [20, 90])
def test_the_engine_computes_the_folders_logits_from_the_file(tmp_path: Path, length: int) -> None:
    target = tmp_path / "ours.gguf"
    convert_to_gguf(SOURCE, target, "F32", name="tiny")
    ids = torch.randint(0, 349, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    with (
        longlens.load(str(SOURCE), device="cpu", dtype="f32") as folder,
        longlens.load(str(target), device="cpu", dtype="f32") as file,
    ):
        difference = (folder.logits(ids) - file.logits(ids)).abs().max()
    assert difference <= 2e-4


def test_routers_norms_and_biases_stay_exact(tmp_path: Path) -> None:
    convert_to_gguf(SOURCE, tmp_path / "ours.gguf", "Q8_0", name="tiny")
    with open_checkpoint(tmp_path / "ours.gguf") as ours:
        kinds = {name: info.element_type.name for name, info in ours.tensors.items()}
    exact = ("norm.weight", "norm.bias", "ffn_gate_inp.weight", "exp_probs_b.bias", "indexer.proj.weight")
    assert {kind for name, kind in kinds.items() if name.endswith(exact)} == {"F32"}
    assert kinds["token_embd.weight"] == kinds["blk.1.ffn_down_exps.weight"] == kinds["blk.0.attn_k_b.weight"] == "Q8_0"


def copy_with(folder: Path, **changes: object) -> Path:
    shutil.copytree(SOURCE, folder)
    config = json.loads((SOURCE / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_without_its_draft_layer_is_refused(tmp_path: Path) -> None:
    folder = copy_with(tmp_path / "cut")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    kept = {name: file for name, file in index["weight_map"].items() if not name.startswith("model.layers.4.")}
    with open_checkpoint(folder) as checkpoint:
        names = set(checkpoint.tensors) - set(kept)
    assert names
    for shard in sorted(folder.glob("*.safetensors")):
        rewrite_without(shard, names)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": kept}))
    with pytest.raises(ConfigError, match="multi-token"):
        convert_to_gguf(folder, tmp_path / "x.gguf", "F32", name="x")
    assert not (tmp_path / "x.gguf").exists()


def rewrite_without(shard: Path, names: set[str]) -> None:
    from safetensors.torch import load_file, save_file

    save_file({name: value for name, value in load_file(shard).items() if name not in names}, shard)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = copy_with(tmp_path / "mute")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        convert_to_gguf(folder, tmp_path / "x.gguf", "F32", name="x")


def test_a_gguf_file_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Hugging Face"):
        convert_to_gguf(FIXTURES / "tiny-glm-F32.gguf", tmp_path / "x.gguf", "F32", name="x")


def test_rows_that_are_no_whole_blocks_are_kept_wider_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    from tests.golden import make_fixtures, tiny_models

    config = make_fixtures.small_glm("FS", hidden_size=48)
    weights = tiny_models.random_weights(config, 1)
    make_fixtures.write_shards({name: torch.from_numpy(value) for name, value in weights.items()}, folder)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(SOURCE / "tokenizer.json", folder)
    written = convert_to_gguf(folder, tmp_path / "odd.gguf", "Q8_0", name="odd")
    assert "token_embd.weight" in written.kept_wider
    assert "blk.0.attn_q_b.weight" not in written.kept_wider
    with open_checkpoint(tmp_path / "odd.gguf") as checkpoint:
        info = checkpoint.tensors["token_embd.weight"]
        assert info.element_type.name == "F16"
        stored = pack(info, checkpoint.read(info.name), None).dense(torch.float32)
    assert torch.allclose(stored, torch.from_numpy(weights["model.embed_tokens.weight"]), rtol=1e-3, atol=1e-6)
