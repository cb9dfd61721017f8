import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlens.convert.quantise_plan import QuantisePlan, QuantiseRequest, plan_quantisation
from longlens.errors import ParameterError, UsageError
from longlens.formats.checkpoint import open_checkpoint

FIXTURES = Path(__file__).parents[1] / "fixtures"
F32, FOLDER = FIXTURES / "tiny-glm-F32.gguf", FIXTURES / "tiny-glm"
SPLIT = FIXTURES / "tiny-glm-Q8_0-00001-of-00002.gguf"


def planned(source: Path, target: Path, file_type: str, **wishes: int | bool) -> QuantisePlan:
    with open_checkpoint(source) as checkpoint:
        return plan_quantisation(checkpoint, QuantiseRequest(target, file_type, **wishes))  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [F32, FOLDER])
@pytest.mark.parametrize("file_type", ["Q8_0", "Q4_K_M"])
def test_tensors_have_the_types_and_shapes_that_llama_quantize_gave_them(
    tmp_path: Path, source: Path, file_type: str
) -> None:
    plan = planned(source, tmp_path / "x.gguf", file_type)
    ours = {tensor.entry.name: (tensor.entry.element_type, tensor.entry.shape) for tensor in plan.tensors}
    with open_checkpoint(SPLIT if file_type == "Q8_0" else FIXTURES / "tiny-glm-Q4_K_M.gguf") as theirs:
        assert ours == {name: (info.element_type.name, info.shape) for name, info in theirs.tensors.items()}
        assert plan.num_weights == sum(info.num_elements for info in theirs.tensors.values())


def test_a_file_is_not_its_own_target() -> None:
    for source, target in ((F32, F32), (F32, F32.parent / "tiny-glm" / ".." / F32.name), (SPLIT, SPLIT)):
        with pytest.raises(UsageError, match="is the source itself"):
            planned(source, target, "F16", may_requantise=True)


def test_shards_do_not_replace_the_shards_of_their_source(tmp_path: Path) -> None:
    for shard in FIXTURES.glob("tiny-glm-Q8_0-*"):
        shutil.copy(shard, tmp_path)
    with pytest.raises(UsageError, match="is the source itself"):
        planned(tmp_path / SPLIT.name, tmp_path / "tiny-glm-Q8_0.gguf", "Q8_0", max_shard_bytes=230_000)


@pytest.mark.parametrize(("target", "fault"), [("x.bin", r"end in \.gguf"), ("no/x.gguf", "no folder")])
def test_a_target_that_cannot_be_is_refused(tmp_path: Path, target: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        planned(F32, tmp_path / target, "Q8_0")


def test_an_unknown_type_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"IQ2_XS(?s:.*)Q4_K_M"):
        planned(F32, tmp_path / "x.gguf", "IQ2_XS")


def test_a_quantised_source_is_refused_by_name_unless_that_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tensors are quantised already: 'token_embd\.weight'"):
        planned(SPLIT, tmp_path / "x.gguf", "Q4_K_M")
    plan = planned(SPLIT, tmp_path / "x.gguf", "Q4_K_M", may_requantise=True)
    assert len(plan.requantised) > 50
    assert "blk.0.attn_norm.weight" not in plan.requantised


def test_what_keeps_its_type_is_copied_and_is_not_quantised_again(tmp_path: Path) -> None:
    plan = planned(SPLIT, tmp_path / "x.gguf", "Q8_0")
    assert plan.requantised == ()
    assert all(tensor.is_copied for tensor in plan.tensors)
    widened = planned(SPLIT, tmp_path / "x.gguf", "F32")
    assert widened.requantised == ()
    assert not all(tensor.is_copied for tensor in widened.tensors)


def test_rows_that_are_no_whole_blocks_are_named(tmp_path: Path) -> None:
    assert "token_embd.weight" in planned(F32, tmp_path / "x.gguf", "Q4_K_M").kept_wider
    assert planned(F32, tmp_path / "x.gguf", "F16").kept_wider == ()


def rewritten(folder: Path, change: dict[str, torch.Tensor | None]) -> Path:
    """tiny-glm in one file, tensors added or taken away."""
    folder.mkdir()
    tensors = {name: value for shard in FOLDER.glob("*.safetensors") for name, value in load_file(shard).items()}
    tensors |= {name: value for name, value in change.items() if value is not None}
    save_file(
        {name: value for name, value in tensors.items() if change.get(name, 0) is not None},
        folder / "model.safetensors",
    )
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(FOLDER / name, folder)
    return folder


def test_a_missing_draft_layer_is_left_out_and_not_promised(tmp_path: Path) -> None:
    with open_checkpoint(FOLDER) as checkpoint:
        gone = {name: None for name in checkpoint.tensors if name.startswith("model.layers.4.")}
    assert gone
    plan = planned(rewritten(tmp_path / "cut", dict(gone)), tmp_path / "x.gguf", "F16")
    assert not any(tensor.entry.name.startswith("blk.4.") for tensor in plan.tensors)
    assert b"nextn_predict_layers\x04\x00\x00\x00\x00\x00\x00\x00" in plan.shards[0].header


def test_other_tensors_of_a_folder_are_left_out_by_name_and_of_a_file_kept(tmp_path: Path) -> None:
    folder = rewritten(tmp_path / "more", {"model.adapter.weight": torch.zeros(2, 2)})
    assert planned(folder, tmp_path / "x.gguf", "F16").left_out == ("model.adapter.weight",)


def test_an_incomplete_folder_is_refused_with_the_tensors_name(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"model\.norm\.weight"):
        planned(rewritten(tmp_path / "cut", {"model.norm.weight": None}), tmp_path / "x.gguf", "F16")
