from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import longlens
from longlens.convert.synthetic_file import SYNTHETIC_TYPES, synthetic_tensors, write_synthetic
from longlens.errors import CapacityError, UsageError
from longlens.formats.checkpoint import open_checkpoint
from longlens.model.config import GqaConfig, ModelConfig, RopeConfig
from longlens.model.needs import num_parameters
from longlens.plan.gguf_mixture import gguf_tensors
from longlens.plan.presets import MODEL_PRESETS
from tests.convert.small_geometry import SMALL

LLAMA = ModelConfig(
    architecture="llama",
    vocab_size=300,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=2,
    num_nextn_predict_layers=0,
    rms_norm_eps=1e-5,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    rope=RopeConfig(1e5, 32, is_interleaved=True),
    attention=GqaConfig(4, 2, 32),
)


def written(folder: Path, config: ModelConfig, file_type: str, *, seed: int = 0) -> Path:
    path = folder / f"{config.architecture}-{file_type}-{seed}.gguf"
    write_synthetic(path, config, file_type, name="small", seed=seed)
    return path


@pytest.mark.parametrize("file_type", SYNTHETIC_TYPES)
def test_a_file_of_every_type_opens_and_generates(tmp_path: Path, file_type: str) -> None:
    path = written(tmp_path, SMALL, file_type)
    with longlens.load(str(path), device="cpu", context=128) as model:
        assert model.opened.warnings == ()
        logits_TV = model.logits(list(range(40)))  # past the indexer's top-k, so that positions are selected
        assert torch.isfinite(logits_TV).all()
        assert 0.2 < float(logits_TV.std()) < 5
        events = list(model.generate("def main():", longlens.SamplingParams(max_tokens=4, ignore_eos=True)))
    assert events[-1].usage.completion_tokens == 4


def test_the_other_architectures_open_and_generate(tmp_path: Path) -> None:
    deepseek = replace(SMALL, architecture="deepseek_v32", rope=replace(MODEL_PRESETS["deepseek-v3.2"].config.rope))
    assert deepseek.indexer is not None
    every_layer = replace(deepseek.indexer, is_full=(True,) * 3, is_rope_interleaved=False)
    for config in (LLAMA, replace(deepseek, indexer=every_layer)):
        with longlens.load(str(written(tmp_path, config, "Q8_0")), device="cpu", context=64) as model:
            assert model.config.architecture == config.architecture
            assert torch.isfinite(model.logits([1, 2, 3, 4])).all()


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("token_embd.weight", 1.0),
        ("output.weight", 256**-0.5),
        ("blk.1.ffn_up_exps.weight", 256**-0.5),
        ("blk.1.ffn_down_exps.weight", (256 * 6) ** -0.5),
        ("blk.0.attn_output.weight", (512 * 6) ** -0.5),
        ("blk.0.attn_k_b.weight", 256**-0.5),
        ("blk.1.exp_probs_b.bias", 0.01),
        ("blk.1.attn_norm.weight", 0.0),
    ],
)
def test_a_matrix_keeps_the_size_of_its_input_and_a_residual_gets_its_share(
    tmp_path: Path, name: str, spread: float
) -> None:
    with open_checkpoint(written(tmp_path, SMALL, "F32")) as checkpoint:
        values = np.frombuffer(checkpoint.read(name), np.float32)
    # A bias of four numbers says little about its spread.
    assert values.std() == pytest.approx(spread, rel=0.03 if values.size > 1000 else 0.8)


def test_the_same_seed_gives_the_same_file_and_another_does_not(tmp_path: Path) -> None:
    first = written(tmp_path, SMALL, "Q4_K").read_bytes()
    again = written(tmp_path, SMALL, "Q4_K").read_bytes()
    other = written(tmp_path, SMALL, "Q4_K", seed=1).read_bytes()
    assert first == again != other


def test_a_tensor_does_not_depend_on_the_tensors_around_it(tmp_path: Path) -> None:
    wider = replace(SMALL, vocab_size=640)
    with (
        open_checkpoint(written(tmp_path, SMALL, "Q6_K")) as small,
        open_checkpoint(written(tmp_path, wider, "Q6_K", seed=0)) as wide,
    ):
        assert bytes(small.read("blk.1.attn_output.weight")) == bytes(wide.read("blk.1.attn_output.weight"))


def test_the_file_holds_the_tensors_that_the_plan_counts(tmp_path: Path) -> None:
    expected = {tensor.name: tensor.element_type.name for tensor in gguf_tensors(SMALL, "q4_k_m")}
    with open_checkpoint(written(tmp_path, SMALL, "Q4_K_M")) as checkpoint:
        found = {name: info.element_type.name for name, info in checkpoint.tensors.items()}
        assert sum(info.num_elements for info in checkpoint.tensors.values()) == num_parameters(SMALL)
    assert found == expected
    assert set(found.values()) == {"F32", "Q4_K", "Q5_0", "Q6_K"}


def test_a_plain_type_is_every_matrix_whose_rows_are_whole_blocks() -> None:
    types = {tensor.name: tensor.element_type.name for tensor in synthetic_tensors(SMALL, "iq2_xs")}
    assert types["blk.1.ffn_gate_exps.weight"] == "IQ2_XS"
    assert types["blk.1.attn_k_b.weight"] == "IQ4_NL"  # its rows have 192 weights
    assert types["blk.1.ffn_gate_inp.weight"] == "F32"
    assert types["blk.0.indexer.proj.weight"] == "F32"
    assert types["output_norm.weight"] == "F32"


def test_an_unknown_type_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'Q9_K'"):
        written(tmp_path, SMALL, "Q9_K")
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_too_small_for_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="vocabulary of 257"):
        written(tmp_path, replace(SMALL, vocab_size=257), "F16")


def test_a_disk_without_room_is_refused_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
    with pytest.raises(CapacityError, match="1000 B are free"):
        written(tmp_path, SMALL, "Q8_0")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_leaves_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        written(tmp_path, SMALL, "Q8_0")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_a_fault_with_a_mend(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        written(tmp_path / "missing", SMALL, "Q8_0")
