import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import longlens
from longlens.convert import quantise_file
from longlens.convert.quantise_file import run_of, write_quantised
from longlens.convert.quantise_plan import QuantiseRequest, plan_quantisation
from longlens.errors import CancelledError, CapacityError, FormatError
from longlens.formats.checkpoint import open_checkpoint
from longlens.kernels.packed import pack
from longlens.text.pretokenizers import PRE_TOKENIZATIONS
from tests.convert.checkpoints import big_file
from tests.golden.make_fixtures import write_checkpoint

FIXTURES = Path(__file__).parents[1] / "fixtures"
F32, FOLDER = FIXTURES / "tiny-glm-F32.gguf", FIXTURES / "tiny-glm"
NEAREST = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q5_1")


class Count:
    """A watcher that cancels after so many pieces."""

    def __init__(self, most_pieces: int = 10**9) -> None:
        self.num_checked = self.num_written = self.num_pieces = 0
        self.most_pieces = most_pieces

    def checked(self, num_weights: int) -> None:
        self.num_checked += num_weights

    def written(self, num_weights: int) -> None:
        self.num_written += num_weights
        self.num_pieces += 1

    def is_cancelled(self) -> bool:
        return self.num_pieces >= self.most_pieces


def quantised(
    source: Path, target: Path, file_type: str, *, threads: int = 2, most: int = 10**9, **wishes: int
) -> Count:
    count = Count(most)
    with open_checkpoint(source) as checkpoint:
        plan = plan_quantisation(checkpoint, QuantiseRequest(target, file_type, **wishes))
        write_quantised(plan, num_threads=threads, watcher=count, is_cancelled=count.is_cancelled)
    assert count.num_checked + count.num_written == plan.num_weights
    return count


def compare(ours: Path, theirs: Path, weights: Path) -> set[str]:
    """Tensor by tensor: the same bytes, or, of K-quants, no more error; which types were seen."""
    kinds = set()
    with open_checkpoint(ours) as one, open_checkpoint(theirs) as other, open_checkpoint(weights) as exact:
        assert one.tensors.keys() == other.tensors.keys()
        for name, info in other.tensors.items():
            kind = info.element_type.name
            assert one.tensors[name].element_type.name == kind
            kinds.add(kind)
            if kind in NEAREST:
                assert bytes(one.read(name)) == bytes(other.read(name)), name
                continue
            true = pack(exact.tensors[name], exact.read(name)).dense(torch.float32)
            errors = [
                (pack(file.tensors[name], file.read(name)).dense(torch.float32) - true).double().square().mean().sqrt()
                for file in (one, other)
            ]
            assert errors[0] <= 1.02 * errors[1], name
    return kinds


@pytest.mark.parametrize("source", [F32, FOLDER])
def test_a_q8_0_file_holds_the_bytes_of_llama_quantize(tmp_path: Path, source: Path) -> None:
    quantised(source, tmp_path / "x.gguf", "Q8_0")
    assert "Q8_0" in compare(tmp_path / "x.gguf", FIXTURES / "tiny-glm-Q8_0-00001-of-00002.gguf", F32)


@pytest.mark.parametrize("source", [F32, FOLDER])
def test_a_q4_k_m_file_of_narrow_rows_holds_the_bytes_of_llama_quantize(tmp_path: Path, source: Path) -> None:
    quantised(source, tmp_path / "x.gguf", "Q4_K_M")
    kinds = compare(tmp_path / "x.gguf", FIXTURES / "tiny-glm-Q4_K_M.gguf", F32)
    assert {"Q5_0", "Q8_0"} <= kinds


@pytest.mark.parametrize("file_type", ["Q4_K_M", "Q6_K"])
def test_k_quants_of_a_real_file_lose_no_more_than_llama_quantizes(tmp_path: Path, file_type: str) -> None:
    write_checkpoint("wide-glm", tmp_path / "wide-glm")
    quantised(tmp_path / "wide-glm", tmp_path / "x.gguf", file_type)
    quantised(tmp_path / "wide-glm", tmp_path / "exact.gguf", "F32")
    kinds = compare(tmp_path / "x.gguf", FIXTURES / f"wide-glm-{file_type}.gguf", tmp_path / "exact.gguf")
    assert "Q6_K" in kinds


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-deepseek"])
def test_folders_of_the_other_architectures_become_what_llama_cpp_makes_of_them(tmp_path: Path, name: str) -> None:
    write_checkpoint(name, tmp_path / name)
    if name == "tiny-deepseek":
        cut_words_as_deepseek(tmp_path / name / "tokenizer.json")
    quantised(tmp_path / name, tmp_path / "x.gguf", "Q8_0")
    with open_checkpoint(tmp_path / "x.gguf") as ours, open_checkpoint(FIXTURES / f"{name}-Q8_0.gguf") as theirs:
        assert ours.tensors.keys() == theirs.tensors.keys()
        differing = [key for key in theirs.tensors if bytes(ours.read(key)) != bytes(theirs.read(key))]
        assert set(differing) <= {"rope_freqs.weight"}  # computed; the last bit may differ
        prefix = str(ours.metadata["general.architecture"])
        for key, value in theirs.metadata.items():
            if key.startswith(prefix):
                assert ours.metadata[key] == value, key


def cut_words_as_deepseek(path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.pre_tokenizer = PRE_TOKENIZATIONS["deepseek-v3"].build()
    tokenizer.save(str(path))
    path.write_text(path.read_text().replace('"ignore_merges": true', '"ignore_merges": false'))


def test_the_model_computes_nearly_the_same_from_a_q8_0_file(tmp_path: Path) -> None:
    quantised(FOLDER, tmp_path / "x.gguf", "Q8_0")
    ids = list(range(1, 21))
    with (
        longlens.load(str(FOLDER), device="cpu", dtype="f32") as folder,
        longlens.load(str(tmp_path / "x.gguf"), device="cpu", dtype="f32") as file,
    ):
        one, other = folder.logits(ids).log_softmax(-1), file.logits(ids).log_softmax(-1)
    assert float((one.exp() * (one - other)).sum(-1).mean()) < 2e-2


def test_shards_are_one_model_and_hold_what_a_single_file_holds(tmp_path: Path) -> None:
    quantised(F32, tmp_path / "one.gguf", "Q8_0")
    quantised(F32, tmp_path / "many.gguf", "Q8_0", max_shard_bytes=100_000)
    shards = sorted(tmp_path.glob("many-*.gguf"))
    assert len(shards) > 3
    assert all(shard.stat().st_size <= 100_000 for shard in shards)
    assert not list(tmp_path.glob("*.p*"))
    with open_checkpoint(tmp_path / "one.gguf") as one, open_checkpoint(shards[1]) as many:
        assert {key: value for key, value in many.metadata.items() if not key.startswith("split.")} == one.metadata
        assert list(many.tensors) == list(one.tensors)
        assert all(bytes(one.read(name)) == bytes(many.read(name)) for name in one.tensors)


def test_metadata_is_kept_but_for_what_is_new(tmp_path: Path) -> None:
    quantised(F32, tmp_path / "x.gguf", "Q4_K_M")
    with open_checkpoint(tmp_path / "x.gguf") as ours, open_checkpoint(F32) as source:
        assert dict(source.metadata) | {"general.file_type": 15, "general.quantization_version": 2} == ours.metadata


def small_pieces(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(quantise_file, "_PIECE_WEIGHTS", 2**12)


@pytest.mark.parametrize("most", [0, 1, 7, 60])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    small_pieces(monkeypatch)
    source = big_file(tmp_path / "source.gguf")
    quantised(source, tmp_path / "whole.gguf", "Q4_K_M")
    with pytest.raises(CancelledError, match=r"stopped after \d+ of 11 tensors"):
        quantised(source, tmp_path / "x.gguf", "Q4_K_M", most=most)
    assert not (tmp_path / "x.gguf").exists()
    again = quantised(source, tmp_path / "x.gguf", "Q4_K_M", threads=1)
    assert (again.num_checked > 0) == (most == 60)
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_a_source_that_changed_or_another_type_is_another_run(tmp_path: Path) -> None:
    source = big_file(tmp_path / "source.gguf")
    runs = []
    for file_type in ("Q4_K_M", "Q8_0", "Q8_0"):
        with open_checkpoint(source) as checkpoint:
            runs.append(run_of(plan_quantisation(checkpoint, QuantiseRequest(tmp_path / "x.gguf", file_type))))
    os.utime(source, ns=(0, 0))
    with open_checkpoint(source) as checkpoint:
        runs.append(run_of(plan_quantisation(checkpoint, QuantiseRequest(tmp_path / "x.gguf", "Q8_0"))))
    assert runs[1] == runs[2]
    assert len(set(runs)) == 3


def test_threads_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pieces(monkeypatch)
    source = big_file(tmp_path / "source.gguf")
    for threads in (1, 3):
        quantised(source, tmp_path / f"{threads}.gguf", "Q5_K_M", threads=threads)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "3.gguf").read_bytes()


def test_torch_has_its_threads_back_and_none_of_ours_are_left(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    quantised(F32, tmp_path / "x.gguf", "Q8_0")
    assert torch.get_num_threads() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quantize")]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_stops_the_run_with_the_tensors_name(tmp_path: Path, bad: float) -> None:
    with pytest.raises(FormatError, match=r"blk\.0\.ffn_up\.weight"):
        quantised(big_file(tmp_path / "source.gguf", bad=bad), tmp_path / "x.gguf", "Q4_K_M")
    assert not (tmp_path / "x.gguf").exists()


def test_a_disk_without_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(CapacityError, match="still to be written"):
        quantised(F32, tmp_path / "x.gguf", "Q8_0")
    assert not list(tmp_path.iterdir())


class Filler(Count):
    """A watcher that lets this process write no further than 100 kB into any file once 60 pieces are written."""

    def written(self, num_weights: int) -> None:
        super().written(num_weights)
        if self.num_pieces == 60:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_disk_that_fills_up_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pieces(monkeypatch)
    source, before = big_file(tmp_path / "source.gguf"), resource.getrlimit(resource.RLIMIT_FSIZE)
    quantised(source, tmp_path / "whole.gguf", "Q4_K_M")
    with open_checkpoint(source) as checkpoint:
        plan = plan_quantisation(checkpoint, QuantiseRequest(tmp_path / "x.gguf", "Q4_K_M"))
        try:
            with pytest.raises(CapacityError, match="the disk is full"):
                write_quantised(plan, num_threads=2, watcher=Filler(), is_cancelled=lambda: False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "x.gguf").exists()
    assert quantised(source, tmp_path / "x.gguf", "Q4_K_M").num_checked > 0
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("file_type", ["Q4_K_M", "BF16"])
def test_memory_does_not_grow_with_the_tensor(tmp_path: Path, file_type: str) -> None:
    source = big_file(tmp_path / "source.gguf", rows=150_000)  # 150 MB of weights
    peak = 0

    class Sample(Count):
        def written(self, num_weights: int) -> None:
            nonlocal peak
            super().written(num_weights)
            time.sleep(0.03)  # a slow disk: the threads run ahead as far as they may
            peak = max(peak, anonymous_bytes())

    quantised(big_file(tmp_path / "small.gguf"), tmp_path / "warm.gguf", file_type)
    before, count = anonymous_bytes(), Sample()
    with open_checkpoint(source) as checkpoint:
        plan = plan_quantisation(checkpoint, QuantiseRequest(tmp_path / "x.gguf", file_type))
        write_quantised(plan, num_threads=2, watcher=count, is_cancelled=count.is_cancelled)
    assert peak - before < 48 * 1024**2


def anonymous_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024
