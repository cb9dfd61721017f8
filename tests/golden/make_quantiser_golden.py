"""Record which type llama-quantize gives to every tensor: tests/golden/quantiser_types.json.

    python -m tests.golden.make_quantiser_golden LLAMA_CPP_BIN SCRATCH CONVERTED_F16

The models have their real sizes, but their files are holes behind a header: llama-quantize is asked for a dry run,
which reads no weight. SCRATCH must lie on a file system that keeps holes (3 TB of them) and maps them.
CONVERTED_F16 is what convert_hf_to_gguf.py makes of tests/fixtures/tiny-glm with `--outtype f16`
(make_gguf_fixtures.py shows how it is called).

Source: llama.cpp, tools/quantize.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from longlens.convert.gguf_metadata import ARCHITECTURE, metadata_of_config
from longlens.formats.checkpoint import open_checkpoint
from longlens.model.config import GqaConfig, ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from longlens.model.needs import parameter_needs
from longlens.plan.presets import MODEL_PRESETS
from longlens.weights.names import Arrangement, tensor_name
from tests.golden.tiny_models import CASES

GOLDEN = Path(__file__).with_name("quantiser_types.json")
FILE_TYPES = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
PRESETS = ("glm-5.2", "glm-5.2-64b", "deepseek-v3.2", "pocket", "smollm2-135m")

_TENSOR = re.compile(r"\[ *\d+/ *\d+\] +(\S+) +- \[.*?\], type = +(\w+), +size = .*?(?:\((\w+)\))?$", re.MULTILINE)
_TOTAL = re.compile(r"quant size += +([\d.]+) MiB")


def configs() -> dict[str, ModelConfig]:
    """The models by name: presets, rows that fit no block, and the geometry that llama.cpp calls 70B."""
    found = {name: MODEL_PRESETS[name].config for name in PRESETS}
    found["narrow"] = read_huggingface_config(CASES["glm_tame"]).config
    found["eighty-layers"] = replace(found["smollm2-135m"], num_hidden_layers=80, tie_word_embeddings=False)
    return found


def metadata(config: ModelConfig) -> tuple[str, Mapping[str, object]]:
    """llama.cpp's name of the architecture, and the keys that its quantiser asks for."""
    if isinstance(config.attention, GqaConfig):
        keys = {
            "block_count": config.num_hidden_layers,
            "context_length": config.max_position_embeddings,
            "embedding_length": config.hidden_size,
            "feed_forward_length": config.intermediate_size,
            "attention.head_count": config.attention.num_attention_heads,
            "attention.head_count_kv": config.attention.num_key_value_heads,
            "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
            "vocab_size": config.vocab_size,
        }
        return "llama", {f"llama.{key}": value for key, value in keys.items()}
    name = "deepseek32" if config.architecture == "deepseek_v32" else ARCHITECTURE
    # Rotary scaling decides no type, and the writer of longlens knows GLM's name only; the keys are the same.
    plain = replace(config, architecture="glm_moe_dsa", rope=replace(config.rope, scaling=None))
    return name, {key.replace(ARCHITECTURE, name): value for key, value in metadata_of_config(plain).items()}


def write_holes(config: ModelConfig, path: Path) -> None:
    """A BF16 file as the converter writes it (norms, biases and the router in F32), its data one hole."""
    architecture, keys = metadata(config)
    writer = GGUFWriter(path, architecture)
    for key, value in keys.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}.get(type(value))
        (add or writer.add_array)(key, value)
    for need in parameter_needs(config):
        name, arrangement = tensor_name(need.name, "gguf")
        shape = need.shape
        if arrangement is Arrangement.TRANSPOSED:
            shape = (*shape[:-2], shape[-1], shape[-2])
        is_exact = need.precision == "fp32" or len(shape) == 1
        kind, width = (GGMLQuantizationType.F32, 4) if is_exact else (GGMLQuantizationType.BF16, 2)
        writer.add_tensor_info(name, shape, np.dtype(np.float32), width * prod(shape), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    sizes = (tensor.nbytes for shard in writer.tensors for tensor in shard.values())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 32 + sum(size + 32 for size in sizes))


def dry_run(tools: Path, file: Path, file_type: str) -> tuple[dict[str, str], float]:
    """What llama-quantize would write: name -> type, and MiB in all."""
    command = [tools / "llama-quantize", "--dry-run", file, file_type.upper(), "1"]
    log = subprocess.run(command, check=True, capture_output=True, text=True)
    text = log.stdout + log.stderr
    # A tensor that is not quantised keeps its type, which the log names before the size.
    types = {name: (after or before).upper() for name, before, after in _TENSOR.findall(text)}
    return types, float(_TOTAL.findall(text)[0])


def rows(by_type: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Names of the tensors that share their types in every file, under these types in the order of the files."""
    grouped: dict[str, list[str]] = {}
    for name in next(iter(by_type.values())):
        grouped.setdefault(" ".join(types[name] for types in by_type.values()), []).append(name)
    return {types: " ".join(names) for types, names in grouped.items()}


def converted(path: Path) -> dict[str, object]:
    """What the converter wrote."""
    with open_checkpoint(path) as checkpoint:
        types = {name: tensor.element_type.name for name, tensor in checkpoint.tensors.items()}
        return {"num_bytes": checkpoint.total_bytes, "rows": rows({"f16": types})}


def main() -> None:
    """Make the file anew."""
    tools, scratch, f16 = (Path(argument) for argument in sys.argv[1:])
    golden: dict[str, object] = {"file_types": FILE_TYPES, "models": {}, "converted_f16": converted(f16)}
    for name, config in configs().items():
        file = scratch / f"{name}.gguf"
        write_holes(config, file)
        found = {file_type: dry_run(tools, file, file_type) for file_type in FILE_TYPES}
        file.unlink()
        mebibytes = {file_type: size for file_type, (_, size) in found.items()}
        types = {file_type: types for file_type, (types, _) in found.items()}
        golden["models"][name] = {"mebibytes": mebibytes, "rows": rows(types)}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
