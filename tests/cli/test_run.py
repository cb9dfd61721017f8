from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.terminal import FIXTURES, TINY, fault_and_mend, longlens

SHORT = ("-n", "6", "--temp", "0")


def test_the_answer_is_on_stdout_and_the_log_on_stderr() -> None:
    result = longlens("run", "-m", TINY, "-p", "def main", *SHORT, "--raw")
    log = result.stderr.decode()
    assert result.returncode == 0, log
    assert result.stdout.endswith(b"\n")
    assert len(result.stdout) > 1
    assert "model: tiny-glm-F32.gguf, architecture glm_moe_dsa, 4 layers (3 full, 1 shared)" in log
    assert "flash-attn: on (gather above 64 tokens)" in log
    assert "swap: none, major faults" in log
    assert "(before prefill)" in log
    assert "(after prefill)" in log
    for part in ("weights", "latents", "index keys", "prefill chunks of", "threads: "):
        assert part in log


def test_json_is_one_object_with_the_contracts_fields() -> None:
    result = longlens("run", "-m", TINY, "-p", "def main", *SHORT, "--json", "-q")
    answer = json.loads(result.stdout)
    assert result.stderr == b""
    for field in ("text", "reasoning", "finish_reason", "usage", "timings", "model", "plan"):
        assert field in answer
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["finish_reason"] == "length"
    assert answer["plan"]["gather_above_tokens"] == 64


def test_llama_clis_spelling_gives_the_same_answer() -> None:
    ours = longlens("run", "-m", TINY, "-p", "def main", *SHORT, "--raw", "-q", "--context", "256")
    theirs = longlens(
        *("run", "-m", TINY, "-p", "def main", "-n", "6", "--temp", "0", "-no-cnv", "-q", "-c", "256"),
        *("--flash-attn", "--threads", "2", "-t", "2", "-ngl", "0", "-ctk", "f32", "--seed", "1", "--top-k", "40"),
        *("--top-p", "0.9", "--min-p", "0.05"),
    )
    assert theirs.returncode == 0, theirs.stderr.decode()
    assert theirs.stdout == ours.stdout


def test_sixteen_threads_on_few_cores_are_one_line() -> None:
    log = longlens("run", "-m", TINY, "-p", "x", *SHORT, "--threads", "4096").stderr.decode()
    (line,) = [line for line in log.splitlines() if "4096 asked for" in line]
    assert line.startswith("threads: ")


def test_gpu_layers_without_a_gpu_are_said_to_be_none() -> None:
    log = longlens("run", "-m", TINY, "-p", "x", *SHORT, "-ngl", "99").stderr.decode()
    assert "gpu layers: 0 (99 asked for" in log or "plain torch on cuda" in log


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    answers = {
        seed: [
            longlens("run", "-m", TINY, "-p", "x", "-n", "12", "--temp", "1", "--seed", seed, "-q", "--json").stdout
            for _ in range(2)
        ]
        for seed in ("7", "8")
    }
    texts = {seed: [json.loads(answer)["reasoning"] for answer in pair] for seed, pair in answers.items()}
    assert texts["7"][0] == texts["7"][1]
    assert texts["7"][0] != texts["8"][0]


def test_a_prompt_comes_from_a_file_or_a_pipe(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("def main")
    from_file = longlens("run", "-m", TINY, "-f", str(file), *SHORT, "-q", "--raw")
    from_pipe = longlens("run", "-m", TINY, "-f", "-", *SHORT, "-q", "--raw", stdin=b"def main")
    from_word = longlens("run", "-m", TINY, "-p", "def main", *SHORT, "-q", "--raw")
    assert from_file.stdout == from_pipe.stdout == from_word.stdout


def test_a_missing_model_names_the_nearest_file() -> None:
    result = longlens("run", "-m", str(FIXTURES / "tiny-glm-F23.gguf"), "-p", "x")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "no file" in fault
    assert "tiny-glm-F32.gguf" in mend


def test_a_cut_file_is_said_to_be_cut(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(Path(TINY).read_bytes()[:200_000])
    result = longlens("run", "-m", str(cut), "-p", "x")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "cut.gguf" in fault
    assert "download" in mend


@pytest.mark.parametrize("garbage", [b"", b"GGUF", b"not a model at all" * 100])
def test_what_is_no_model_is_refused(tmp_path: Path, garbage: bytes) -> None:
    file = tmp_path / "garbage.gguf"
    file.write_bytes(garbage)
    result = longlens("run", "-m", str(file), "-p", "x")
    fault_and_mend(result)
    assert result.returncode == 1


def patched(tmp_path: Path, old: bytes, new: bytes) -> str:
    """The tiny GGUF with some bytes of its header changed, length for length."""
    data = Path(TINY).read_bytes()
    assert len(old) == len(new)
    assert old in data
    file = tmp_path / "patched.gguf"
    file.write_bytes(data.replace(old, new))
    return str(file)


def test_an_unknown_architecture_is_refused_with_what_is_supported(tmp_path: Path) -> None:
    result = longlens("run", "-m", patched(tmp_path, b"glm-dsa", b"xlstm-7"), "-p", "x")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "'xlstm-7'" in fault
    assert "glm-dsa" in mend


def test_an_unknown_tensor_type_is_refused_by_number(tmp_path: Path) -> None:
    name = b"output_norm.weight"
    data = Path(TINY).read_bytes()
    at = data.index(name) + len(name) + 4 + 8  # after the name: number of dims, one dim, then the type
    file = tmp_path / "typed.gguf"
    file.write_bytes(data[:at] + (4711).to_bytes(4, "little") + data[at + 4 :])
    result = longlens("run", "-m", str(file), "-p", "x")
    fault, _ = fault_and_mend(result)
    assert result.returncode == 1
    assert "4711" in fault
    assert "output_norm.weight" in fault


def test_an_unknown_model_type_of_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "tiny-glm", tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "glm5_next"}
    (folder / "config.json").write_text(json.dumps(config))
    fault, mend = fault_and_mend(longlens("run", "-m", str(folder), "-p", "x"))
    assert "'glm5_next'" in fault
    assert "glm_moe_dsa" in mend


def test_a_context_that_is_too_long_is_refused() -> None:
    result = longlens("run", "-m", TINY, "-p", "x", "-c", "9000000")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "9000000" in fault
    assert "--context" in mend


def test_a_prompt_longer_than_the_context_is_refused_before_work() -> None:
    result = longlens("run", "-m", TINY, "-p", "word " * 400, "-c", "64", "-q")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "64" in fault
    assert "--context" in mend


@pytest.mark.parametrize("words", [["-p", ""], ["-p", "  \n"], ["-f", "-"], [], ["-p", "x", "-f", "y"]])
def test_no_prompt_an_empty_one_or_two_are_wrong_usage(words: list[str]) -> None:
    result = longlens("run", "-m", TINY, *words)
    fault, mend = fault_and_mend(result)
    assert result.returncode == 2
    assert "prompt" in fault
    assert "-p" in mend


def test_a_prompt_file_that_is_not_utf8_is_refused_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9")
    result = longlens("run", "-m", TINY, "-f", str(file))
    fault, mend = fault_and_mend(result)
    assert result.returncode == 2
    assert "0xE9 at offset 3" in fault
    assert "iconv" in mend


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["-fa", "off"], "--flash-attn"),
        (["-i"], "not interactive"),
        (["--temp", "-1"], "temperature"),
        (["--top-p", "1.5"], "top_p"),
        (["-n", "-5"], "max_tokens"),
        (["-t", "0"], "num_threads"),
        (["-ctk", "q8_0"], "q8_0"),
        (["-l", "abc"], "logit-bias"),
        (["-l", "999999+1"], "999999"),
        (["--chat-template-kwargs", "{"], "chat-template-kwargs"),
        (["--chat-template-kwargs", '{"volume": 11}'], "volume"),
        (["--raw", "-sys", "be kind"], "--raw"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_an_option_that_means_nothing_is_refused_by_name(words: list[str], shown: str) -> None:
    result = longlens("run", "-m", TINY, "-p", "x", "-q", *words)
    fault, _ = fault_and_mend(result)
    assert result.returncode == 2
    assert shown in fault


def test_a_reader_that_leaves_early_ends_the_program_quietly() -> None:
    import subprocess
    import sys

    from tests.cli.terminal import environment

    command = [sys.executable, "-m", "longlens", "run", "-m", TINY, "-p", "x", "-n", "60", "-q", "--raw", "--temp", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.wait(60)
    process.stderr.close()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
