"""When one machine is outgrown: how many of them, and the commands that start an engine which exists, on Ray.

The split follows from bytes a graphics processor: tensor parallel inside a machine, pipeline parallel across machines.
Latent attention has one key-value head, so tensor parallel copies the cache to every device; only the pipeline's
stages divide it.

Source: vLLM, docs/serving/parallelism_scaling.md; the GLM-5.2 recipe of vLLM (parsers, cache type, MTP); vLLM recipes
875 (with more than one stage the MTP draft does not start); sglang 17684 (`--use-ray`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from longlens.errors import CapacityError
from longlens.model.config import MlaConfig, ModelConfig
from longlens.plan.cache_formats import cache_formats
from longlens.plan.file_types import stored_bytes
from longlens.plan.hardware_records import Hardware
from longlens.plan.presets import ModelPreset
from longlens.units import GIB, format_bytes

MOST_MACHINES = 16
# What the engines may take of a device, and what of it they need for activations, graphs and communication.
ENGINE_SHARE = 0.90
ENGINE_BYTES = 8 * GIB
_SERVED_CACHE = "fp8_ds_mla, fp8 index keys"
_GLM_PARSERS = "--tool-call-parser glm47 --reasoning-parser glm45"
# Block-FP8 checkpoints that both engines serve as they are.
SERVED: Mapping[str, str] = MappingProxyType(
    {
        "glm-5": "zai-org/GLM-5-FP8",
        "glm-5.1": "zai-org/GLM-5.1-FP8",
        "glm-5.2": "zai-org/GLM-5.2-FP8",
        "glm-5.3": "zai-org/GLM-5.3",
        "deepseek-v3.2": "deepseek-ai/DeepSeek-V3.2",
    }
)


@dataclass(frozen=True)
class Launch:
    """A model on several devices, perhaps of several machines.

    Attributes:
        repository: the checkpoint that is served.
        hardware: the kind of machine.
        num_machines: machines of this kind; also the stages of the pipeline.
        tensor_parallel: devices of each machine that share every matrix.
        context: most tokens of a sequence.
        num_sequences: sequences of that length at once.
        weights_bytes: of the fullest device.
        cache_bytes: of the fullest device.
        device_bytes: what the engine may take of one device.
    """

    repository: str
    hardware: str
    num_machines: int
    tensor_parallel: int
    context: int
    num_sequences: int
    weights_bytes: int
    cache_bytes: int
    device_bytes: int

    @property
    def used_bytes(self) -> int:
        """Weights, cache and the engine's own on the fullest device."""
        return self.weights_bytes + self.cache_bytes + ENGINE_BYTES

    def reason(self) -> str:
        """One line: why it is split like this."""
        return (
            f"{format_bytes(self.weights_bytes)} of weights, {format_bytes(self.cache_bytes)} of cache and "
            f"{format_bytes(ENGINE_BYTES)} for the engine on a device, of {format_bytes(self.device_bytes)}: tensor "
            f"parallel {self.tensor_parallel}, pipeline parallel {self.num_machines}"
        )

    def commands(self, engine: Literal["vllm", "sglang"]) -> tuple[str, ...]:
        """The lines to type: Ray on every machine where there are several, then the engine on the first."""
        serve = self._vllm() if engine == "vllm" else self._sglang()
        if self.num_machines == 1:
            return (serve,)
        return (
            "ray start --head --port=6379  # on the first machine, whose address is HEAD",
            f"ray start --address=HEAD:6379  # on each of the other {self.num_machines - 1}",
            serve,
        )

    def _vllm(self) -> str:
        words = [f"vllm serve {self.repository} --tensor-parallel-size {self.tensor_parallel}"]
        if self.num_machines > 1:
            words.append(f"--pipeline-parallel-size {self.num_machines} --distributed-executor-backend ray")
        words.append(f"--kv-cache-dtype fp8 --max-model-len {self.context} --max-num-seqs {self.num_sequences}")
        words.append(f"--gpu-memory-utilization {ENGINE_SHARE:.2f}")
        if self._is_glm:
            # The draft of multi-token prediction refuses to start when the layers are split into stages.
            if self.num_machines == 1:
                words.append("--speculative-config.method mtp --speculative-config.num_speculative_tokens 5")
            words.append(f"{_GLM_PARSERS} --enable-auto-tool-choice")
        return " ".join(words)

    def _sglang(self) -> str:
        words = [f"python -m sglang.launch_server --model-path {self.repository} --tp-size {self.tensor_parallel}"]
        if self.num_machines > 1:
            words.append(f"--pp-size {self.num_machines} --nnodes {self.num_machines} --use-ray")
        words.append(f"--kv-cache-dtype fp8_e4m3 --context-length {self.context}")
        words.append(f"--max-running-requests {self.num_sequences} --mem-fraction-static {ENGINE_SHARE:.2f}")
        if self._is_glm:
            words.append(_GLM_PARSERS)
        return " ".join(words)

    @property
    def _is_glm(self) -> bool:
        return self.repository.startswith("zai-org/")


def plan_launch(preset: ModelPreset, hardware: Hardware, context: int, num_sequences: int) -> Launch:
    """Find the fewest machines of a kind that hold a model with its cache.

    Args:
        preset: the model; its block-FP8 checkpoint is served.
        hardware: the kind of machine; it must have graphics processors.
        context: most tokens of a sequence.
        num_sequences: sequences of that length at once.

    Raises:
        CapacityError: no checkpoint of the model is served by these engines, the machine has no device that
            multiplies fp8, or even `MOST_MACHINES` of them are too small.
    """
    config = preset.config
    if preset.name not in SERVED or not isinstance(config.attention, MlaConfig):
        raise CapacityError(
            f"no checkpoint of {preset.title} is served across machines", f"choose {', '.join(SERVED)} to plan for one"
        )
    if hardware.tier("gpu") is None or hardware.peaks is None or not hardware.peaks.fp8_flops:
        raise CapacityError(
            f"{hardware.title} has no device that multiplies fp8, which the served checkpoint needs",
            "name a machine that has, such as h200-x8",
        )
    split = tensor_parallel_of(config, hardware)
    device = int(hardware.device_bytes * ENGINE_SHARE)
    for machines in range(1, min(MOST_MACHINES, config.num_hidden_layers) + 1):
        launch = Launch(
            repository=SERVED[preset.name],
            hardware=hardware.name,
            num_machines=machines,
            tensor_parallel=split,
            context=context,
            num_sequences=num_sequences,
            weights_bytes=_stage_weights(config, machines) // split,
            cache_bytes=_stage_cache(config, machines, context * num_sequences),
            device_bytes=device,
        )
        if launch.used_bytes <= device:
            return launch
    raise CapacityError(
        f"{MOST_MACHINES} x {hardware.title} are too small for {preset.title} with {num_sequences} x {context} tokens",
        "name a machine with more memory, a shorter --context or fewer --users",
    )


def tensor_parallel_of(config: ModelConfig, hardware: Hardware) -> int:
    """Devices that share every matrix: the largest number that the machine has and that divides the heads."""
    heads = config.attention.num_attention_heads
    return max((n for n in range(1, hardware.num_devices + 1) if heads % n == 0), default=1)


def _stage_weights(config: ModelConfig, stages: int) -> int:
    """Weights of the fullest stage: its share of the layers, and embedding or head, whichever is larger."""
    classes = stored_bytes(config, "fp8")
    layers = -(-config.num_hidden_layers // stages)
    if stages == 1:
        return sum(classes.values())
    ends = max(classes["embedding"], classes["head"])
    sparse = sum(config.moe.is_sparse) if config.moe is not None else 0
    experts = sum(classes[name] for name in ("experts", "shared_experts", "router"))
    others = sum(classes.values()) - experts - classes["embedding"] - classes["head"] - classes["mtp"]
    return (
        ends
        + -(-others * layers // config.num_hidden_layers)
        + (-(-experts * min(layers, sparse) // sparse) if sparse else 0)
    )


def _stage_cache(config: ModelConfig, stages: int, tokens: int) -> int:
    served = next(item for item in cache_formats(config) if item.name == _SERVED_CACHE)
    layers = -(-config.num_hidden_layers // stages)
    # One stage keeps the multi-token prediction layer's rows as well.
    if stages == 1:
        layers += config.num_nextn_predict_layers
    return -(-tokens * served.bytes_per_token * layers // config.num_hidden_layers)
