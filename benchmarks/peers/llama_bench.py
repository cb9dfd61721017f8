"""llama.cpp's own measuring tool: how it is started, and what its output says.

Source: llama.cpp, tools/llama-bench/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.peers.workload import NUM_THREADS, Workload


def command(tool: Path, model: Path, workload: Workload, num_samples: int) -> list[str]:
    """The command line for one workload, every setting pinned; one JSON object a line comes back."""
    tokens, answers = (workload.num_tokens, 0) if workload.kind == "prefill" else (0, workload.num_tokens)
    numbers = {"-t": NUM_THREADS, "-ub": workload.ubatch_tokens, "-p": tokens, "-n": answers, "-d": workload.depth}
    words = [str(word) for pair in numbers.items() for word in pair]
    return [str(tool), "-m", str(model), *words, "-fa", "1", "-r", str(num_samples), "-o", "jsonl"]


def samples(output: str, workload: Workload) -> tuple[list[float], dict[str, object]]:
    """Tokens a second of every repetition, and the settings that the tool states.

    Raises:
        ValueError: not one result, or one of another workload or other settings than `command` asks for.
    """
    results: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if len(results) != 1:
        raise ValueError(f"llama-bench printed {len(results)} results, not one")
    (result,) = results
    is_prefill = workload.kind == "prefill"
    wanted = {
        "n_prompt": workload.num_tokens if is_prefill else 0,
        "n_gen": 0 if is_prefill else workload.num_tokens,
        "n_depth": workload.depth,
        "n_threads": NUM_THREADS,
        "n_ubatch": workload.ubatch_tokens,
    }
    found = {key: result.get(key) for key in wanted}
    if found != wanted or int(result["flash_attn"]) != 1:
        raise ValueError(f"llama-bench measured {found}, flash_attn {result['flash_attn']}; asked for {wanted}")
    rates = [workload.num_tokens / (nanoseconds / 1e9) for nanoseconds in result["samples_ns"]]
    kept = ("build_commit", "backends", "n_batch", "n_ubatch", "n_threads", "flash_attn", "type_k", "type_v", "repack")
    return rates, {key: result.get(key) for key in kept}


def missing_instructions(system_info: str, instruction_sets: tuple[str, ...]) -> list[str]:
    """Vector extensions that the processor has and a build does not use: it was not made with GGML_NATIVE=ON.

    Args:
        system_info: what `llama_print_system_info` says, "AVX2 = 1 | AVX512 = 1 | ...".
        instruction_sets: of the machine, in /proc/cpuinfo's spelling.
    """
    theirs = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI", "avx512_bf16": "AVX512_BF16"}
    return [name for flag, name in theirs.items() if flag in instruction_sets and f"{name} = 1" not in system_info]
