"""llama-bench is started with every setting pinned, and its output is refused if it measured something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.peers import llama_bench
from benchmarks.peers.workload import Workload

WORKLOAD = Workload("prefill", 512, 16_384)
# As printed by llama-bench of llama-cpp-python 0.3.36, shortened.
RESULT = {
    "build_commit": "0c1e570",
    "backends": "CPU",
    "model_filename": "a.gguf",
    "n_batch": 2048,
    "n_ubatch": 256,
    "n_threads": 2,
    "type_k": "f16",
    "type_v": "f16",
    "flash_attn": 1,
    "repack": True,
    "n_prompt": 512,
    "n_gen": 0,
    "n_depth": 16_384,
    "samples_ns": [1_000_000_000, 2_000_000_000],
}


def output(**changes: object) -> str:
    return f"warning: something\n{json.dumps(RESULT | changes)}\n"


def test_prefill_and_decode_are_asked_for_with_all_settings() -> None:
    words = llama_bench.command(Path("llama-bench"), Path("a.gguf"), WORKLOAD, 5)
    assert " ".join(words) == "llama-bench -m a.gguf -t 2 -ub 256 -p 512 -n 0 -d 16384 -fa 1 -r 5 -o jsonl"
    words = llama_bench.command(Path("llama-bench"), Path("a.gguf"), Workload("decode", 32), 5)
    assert " ".join(words) == "llama-bench -m a.gguf -t 2 -ub 512 -p 0 -n 32 -d 0 -fa 1 -r 5 -o jsonl"


def test_rates_are_computed_from_the_nanoseconds_of_every_sample() -> None:
    rates, settings = llama_bench.samples(output(), WORKLOAD)
    assert rates == [512.0, 256.0]
    assert settings["build_commit"] == "0c1e570"
    assert "model_filename" not in settings


def test_a_decode_result_is_read_as_one() -> None:
    rates, _ = llama_bench.samples(output(n_prompt=0, n_gen=32, n_depth=0, n_ubatch=512), Workload("decode", 32))
    assert rates == [32.0, 16.0]


@pytest.mark.parametrize(
    "changes", [{"n_threads": 1}, {"n_ubatch": 512}, {"flash_attn": 0}, {"n_depth": 0}, {"n_prompt": 256}, {"n_gen": 1}]
)
def test_a_result_with_other_settings_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="asked for"):
        llama_bench.samples(output(**changes), WORKLOAD)


@pytest.mark.parametrize("text", ["", output() * 2])
def test_none_or_two_results_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not one"):
        llama_bench.samples(text, WORKLOAD)


def test_a_build_for_an_older_processor_is_noticed() -> None:
    info = "CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 1 | LLAMAFILE = 1"
    assert llama_bench.missing_instructions(info, ("avx2", "avx512f")) == []
    assert llama_bench.missing_instructions(info, ("avx2", "avx512f", "avx512_vnni")) == ["AVX512_VNNI"]
    assert llama_bench.missing_instructions("CPU : SSE3 = 1", ("fma",)) == []
