from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlens.errors import CapacityError
from longlens.plan.cache_formats import cache_formats
from longlens.plan.file_types import stored_bytes
from longlens.plan.hardware import HARDWARE
from longlens.plan.launch import ENGINE_BYTES, ENGINE_SHARE, MOST_MACHINES, plan_launch, tensor_parallel_of
from longlens.plan.presets import MODEL_PRESETS

GLM = MODEL_PRESETS["glm-5.2"]
H200 = HARDWARE["h200-x8"]
MILLION = 1_048_576


def test_one_machine_of_eight_h200_holds_glm_5_2_with_128k() -> None:
    launch = plan_launch(GLM, H200, 131_072, 1)
    assert (launch.num_machines, launch.tensor_parallel) == (1, 8)
    assert launch.weights_bytes == sum(stored_bytes(GLM.config, "fp8").values()) // 8
    served = next(f for f in cache_formats(GLM.config) if f.name == "fp8_ds_mla, fp8 index keys")
    # The cache is copied to every device, with the rows of the multi-token prediction layer.
    assert launch.cache_bytes == -(-131_072 * served.bytes_per_token * 79 // 78)
    assert launch.device_bytes == int(H200.device_bytes * ENGINE_SHARE)
    assert launch.used_bytes == launch.weights_bytes + launch.cache_bytes + ENGINE_BYTES <= launch.device_bytes


def test_a_million_tokens_need_two_of_them() -> None:
    launch = plan_launch(GLM, H200, MILLION, 1)
    assert (launch.num_machines, launch.tensor_parallel) == (2, 8)
    assert "tensor parallel 8, pipeline parallel 2" in launch.reason()


def options_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_vllm_on_one_machine_speculates_and_needs_no_ray() -> None:
    (command,) = plan_launch(GLM, H200, 131_072, 2).commands("vllm")
    words = options_of(command)
    assert words[:3] == ["vllm", "serve", "zai-org/GLM-5.2-FP8"]
    assert value(words, "--tensor-parallel-size") == "8"
    assert value(words, "--max-model-len") == "131072"
    assert value(words, "--max-num-seqs") == "2"
    assert value(words, "--speculative-config.method") == "mtp"
    assert value(words, "--tool-call-parser") == "glm47"
    assert value(words, "--reasoning-parser") == "glm45"
    assert "--pipeline-parallel-size" not in words


def test_vllm_on_several_machines_runs_on_ray_without_the_draft() -> None:
    head, others, command = plan_launch(GLM, H200, MILLION, 1).commands("vllm")
    assert options_of(head) == ["ray", "start", "--head", "--port=6379"]
    assert options_of(others) == ["ray", "start", "--address=HEAD:6379"]
    words = options_of(command)
    assert value(words, "--pipeline-parallel-size") == "2"
    assert value(words, "--distributed-executor-backend") == "ray"
    assert not any("speculative" in word for word in words), "the MTP draft does not start with stages"


def test_sglang_gets_the_same_split() -> None:
    launch = plan_launch(GLM, H200, MILLION, 1)
    words = options_of(launch.commands("sglang")[-1])
    assert words[:3] == ["python", "-m", "sglang.launch_server"]
    assert value(words, "--model-path") == launch.repository
    assert (value(words, "--tp-size"), value(words, "--pp-size"), value(words, "--nnodes")) == ("8", "2", "2")
    assert "--use-ray" in words
    assert value(words, "--context-length") == str(MILLION)
    alone = options_of(plan_launch(GLM, H200, 8192, 1).commands("sglang")[-1])
    assert "--nnodes" not in alone


def test_other_makers_models_get_no_glm_parsers() -> None:
    (command,) = plan_launch(MODEL_PRESETS["deepseek-v3.2"], H200, 8192, 1).commands("vllm")
    assert "deepseek-ai/DeepSeek-V3.2" in command
    assert "glm" not in command


@pytest.mark.parametrize("name", ["rtx-3090-x8", "mac-studio-512", "epyc-12ch", "laptop-16"])
def test_a_machine_without_fp8_devices_is_refused(name: str) -> None:
    with pytest.raises(CapacityError, match="no device that multiplies fp8") as caught:
        plan_launch(GLM, HARDWARE[name], 8192, 1)
    assert "h200-x8" in caught.value.mend


def test_machines_that_are_too_small_in_any_number_are_refused() -> None:
    with pytest.raises(CapacityError, match=f"{MOST_MACHINES} x RTX 4090 are too small"):
        plan_launch(GLM, HARDWARE["rtx-4090"], 8192, 1)


@pytest.mark.parametrize("name", ["pocket", "smollm2-135m", "glm-5.2-64b"])
def test_a_model_without_a_served_checkpoint_is_refused(name: str) -> None:
    with pytest.raises(CapacityError, match="no checkpoint") as caught:
        plan_launch(MODEL_PRESETS[name], H200, 4096, 1)
    assert "glm-5.2" in caught.value.mend


def test_devices_that_do_not_divide_the_heads_stay_idle() -> None:
    assert tensor_parallel_of(GLM.config, H200) == 8
    assert tensor_parallel_of(GLM.config, replace(H200, num_devices=7)) == 4
    assert tensor_parallel_of(GLM.config, replace(H200, num_devices=1)) == 1


@settings(deadline=None, max_examples=20)
@given(st.integers(1, MILLION), st.integers(0, 2**20), st.integers(1, 4))
def test_more_tokens_never_need_fewer_machines(context: int, more: int, users: int) -> None:
    near = plan_launch(GLM, H200, context, users)
    far = plan_launch(GLM, H200, context + more, users)
    assert near.num_machines <= far.num_machines
    assert near.used_bytes <= near.device_bytes
