"""Weights that are not finite, as a damaged file holds them: named when the model answers, whatever the kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import longlens
from longlens.errors import LogitsError, SelectionError
from longlens.formats.checkpoint import open_checkpoint
from longlens.kernels.choose import HAS_NATIVE, KernelWish
from tests.cli.terminal import FIXTURES, fault_and_mend
from tests.cli.terminal import longlens as command

LLAMA = FIXTURES / "tiny-llama-Q8_0.gguf"
DEEPSEEK = FIXTURES / "tiny-deepseek-Q8_0.gguf"
WISHES: list[KernelWish] = ["native", "plain"] if HAS_NATIVE else ["plain"]
PROMPT = list(range(5, 25))


def damaged(source: Path, folder: Path, tensor: str, half: float, *, first_block_only: bool = False) -> Path:
    """A copy of a file in Q8_0 with the scale of every block of one tensor, or of its first one, replaced."""
    with open_checkpoint(source) as checkpoint:
        info = checkpoint.tensors[tensor]
        assert info.element_type.name == "Q8_0"
        offset, num_bytes = info.offset, info.num_bytes
    content = np.fromfile(source, np.uint8)
    blocks = content[offset : offset + num_bytes].reshape(-1, info.element_type.block_bytes)
    blocks[: 1 if first_block_only else None, :2] = np.frombuffer(np.float16(half).tobytes(), np.uint8)
    path = folder / source.name
    content.tofile(path)
    return path


def answer(path: Path, kernels: KernelWish, max_tokens: int = 3) -> list[object]:
    with longlens.load(str(path), device="cpu", context=128, kernels=kernels) as model, model.session() as session:
        session.extend(PROMPT)
        return list(session.generate(longlens.SamplingParams(max_tokens=max_tokens, ignore_eos=True)))


@pytest.mark.parametrize("kernels", WISHES)
@pytest.mark.parametrize("half", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("tensor", ["blk.0.ffn_down.weight", "blk.1.attn_q.weight", "blk.1.attn_v.weight"])
def test_scales_that_are_not_finite_are_logits_that_no_token_is_chosen_from(
    tmp_path: Path, tensor: str, half: float, kernels: KernelWish
) -> None:
    with pytest.raises(LogitsError, match="the model's logits hold NaN"):
        answer(damaged(LLAMA, tmp_path, tensor, half), kernels)


@pytest.mark.parametrize("kernels", WISHES)
@pytest.mark.parametrize("half", [float("nan"), float("inf"), float("-inf")])
def test_one_damaged_row_of_the_head_is_enough_whatever_its_sign(
    tmp_path: Path, half: float, kernels: KernelWish
) -> None:
    path = damaged(LLAMA, tmp_path, "output.weight", half, first_block_only=True)
    with pytest.raises(LogitsError, match="the model's logits hold"):
        answer(path, kernels, max_tokens=1)


@pytest.mark.parametrize("kernels", WISHES)
@pytest.mark.parametrize("tensor", ["blk.0.attn_kv_a_mqa.weight", "blk.1.ffn_down_exps.weight", "output.weight"])
def test_a_model_with_an_indexer_and_experts_names_them_as_well(
    tmp_path: Path, tensor: str, kernels: KernelWish
) -> None:
    with pytest.raises((LogitsError, SelectionError), match=r"NaN|not finite"):
        answer(damaged(DEEPSEEK, tmp_path, tensor, float("nan")), kernels)


@pytest.mark.parametrize("kernels", WISHES)
def test_huge_but_finite_scales_end_in_tokens_or_in_the_same_error(tmp_path: Path, kernels: KernelWish) -> None:
    path = damaged(LLAMA, tmp_path, "blk.0.ffn_down.weight", 65504.0)
    assert answer(path, kernels)


@pytest.mark.parametrize("kernels", WISHES)
def test_the_command_line_prints_the_fault_and_a_mend(tmp_path: Path, kernels: KernelWish) -> None:
    path = damaged(LLAMA, tmp_path, "blk.0.ffn_down.weight", float("nan"))
    result = command("run", "-m", str(path), "-p", "def main", "-n", "3", "-c", "128", "--kernels", kernels)
    assert result.returncode == 1
    fault, mend = fault_and_mend(result)
    assert "the model's logits hold NaN" in fault
    assert "damaged" in mend
