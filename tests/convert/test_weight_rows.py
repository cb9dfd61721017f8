import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlens.convert.weight_rows import WeightRows, rows_of_parameter, rows_of_tensor, rows_of_values
from longlens.errors import ConfigError
from longlens.formats.checkpoint import open_checkpoint
from longlens.weights.names import Arrangement, tensor_name
from longlens.weights.resident import ResidentWeights
from tests.convert.checkpoints import catalog_of

FIXTURES = Path(__file__).parents[1] / "fixtures"
FOLDER, FILE = FIXTURES / "tiny-glm", FIXTURES / "tiny-glm-F32.gguf"
QUANTISATION = {"quant_method": "fp8", "weight_block_size": [32, 32]}
QUERY = "model.layers.0.self_attn.q_a_proj.weight"


def in_pieces(rows: WeightRows, step: int) -> torch.Tensor:
    starts = range(0, rows.num_rows, step)
    return torch.cat([rows.read(start, min(start + step, rows.num_rows)) for start in starts])


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_the_rows_of_a_folder_are_those_of_llama_cpps_converter(step: int) -> None:
    arrangements = set()
    with open_checkpoint(FOLDER) as folder, open_checkpoint(FILE) as file:
        for name, source in catalog_of(folder).sources.items():
            theirs = rows_of_tensor(file, file.tensors[tensor_name(name, "gguf")[0]])
            ours = rows_of_parameter(folder, source, paired_heads=None)
            assert ours.num_rows == theirs.num_rows
            assert torch.equal(in_pieces(ours, step), theirs.read(0, theirs.num_rows)), name
            arrangements.add(source.arrangement)
    assert len(arrangements) == 4  # same, a tensor an expert, keys, values


def test_rows_of_heads_in_pairs_are_those_of_both_halves_in_turn() -> None:
    with open_checkpoint(FOLDER) as folder:
        source = catalog_of(folder).sources[QUERY]
        plain = rows_of_parameter(folder, source, paired_heads=None)
        paired = rows_of_parameter(folder, source, paired_heads=2)
        whole, half = plain.read(0, plain.num_rows), plain.num_rows // 4
        expected = torch.stack([whole[:half], whole[half : 2 * half]], 1).flatten(0, 1)
        assert torch.equal(paired.read(0, 2 * half), expected)
        assert torch.equal(in_pieces(paired, 3)[: 2 * half], expected)
        assert paired.raw(0, 1) is None


def test_a_bias_has_its_numbers_in_pairs() -> None:
    with open_checkpoint(FOLDER) as folder:
        source = catalog_of(folder).sources["model.layers.0.self_attn.q_a_layernorm.weight"]
        plain = rows_of_parameter(folder, source, paired_heads=None).read(0, 1)[0]
        paired = rows_of_parameter(folder, source, paired_heads=1)
        assert torch.equal(paired.read(0, paired.num_rows).flatten()[::2], plain[: len(plain) // 2])


def test_raw_rows_are_the_sources_bytes() -> None:
    with open_checkpoint(FILE) as file:
        name = "blk.1.ffn_down_exps.weight"
        rows = rows_of_tensor(file, file.tensors[name])
        raw = rows.raw(0, rows.num_rows)
        assert raw is not None
        assert raw.tobytes() == bytes(file.read(name))
        assert rows.source_types == {"F32"}


def test_computed_values_are_one_row() -> None:
    rows = rows_of_values(torch.tensor([1.0, 2.5]))
    assert rows.read(0, 1).tolist() == [[1.0, 2.5]]


def fp8_folder(path: Path) -> Path:
    """tiny-glm with block FP8 in its two dimensional projections, in blocks of 32."""
    path.mkdir()
    for file in FOLDER.iterdir():
        shutil.copy(file, path)
    for shard in path.glob("*.safetensors"):
        tensors = load_file(shard)
        for name in [name for name in tensors if "_proj" in name and "indexer" not in name]:
            rows, columns = tensors[name].shape
            tensors[name] = (tensors[name].float() * 8).to(torch.float8_e4m3fn)
            grid = torch.arange(1.0, 1 + -(-rows // 32) * -(-columns // 32)).view(-(-rows // 32), -1)
            tensors[f"{name}_scale_inv"] = grid / 16
        save_file(tensors, shard)
    names = {name: shard.name for shard in path.glob("*.safetensors") for name in load_file(shard)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    config = json.loads((FOLDER / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": QUANTISATION}))
    return path


def test_block_fp8_is_scaled_wherever_a_piece_begins(tmp_path: Path) -> None:
    kinds = set()
    with open_checkpoint(fp8_folder(tmp_path / "fp8")) as folder:
        catalog = catalog_of(folder)
        weights = ResidentWeights(folder, catalog, torch.device("cpu"), torch.float32)
        for name, source in catalog.sources.items():
            expected = weights.tensor(name)
            if source.arrangement is Arrangement.KEY_ROWS:
                expected = expected.transpose(-1, -2)
            rows = rows_of_parameter(folder, source, paired_heads=None)
            assert torch.equal(in_pieces(rows, 7).flatten(), expected.flatten()), name
            kinds |= {(source.arrangement, kind) for kind in rows.source_types}
    assert (Arrangement.KEY_ROWS, "F8_E4M3") in kinds
    assert (Arrangement.PER_EXPERT, "F8_E4M3") in kinds


def test_a_block_size_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    path = fp8_folder(tmp_path / "fp8")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(
        json.dumps(config | {"quantization_config": QUANTISATION | {"weight_block_size": [32, 16]}})
    )
    with open_checkpoint(path) as folder:
        source = catalog_of(folder).sources[QUERY]
        with pytest.raises(ConfigError, match="weight_block_size"):
            rows_of_parameter(folder, source, paired_heads=None)
