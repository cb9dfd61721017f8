"""Convert and quantise the fixture checkpoints with llama.cpp's own tools: tests/fixtures/*.gguf.

    python -m tests.golden.make_gguf_fixtures LLAMA_CPP_SOURCE LLAMA_CPP_BIN SCRATCH

LLAMA_CPP_SOURCE holds convert_hf_to_gguf.py, LLAMA_CPP_BIN the built llama-quantize and
llama-gguf-split. Only one thing in the converter is changed: the name of the pre-tokenizer, which
it looks up by the hash of a known tokenizer's output, is given instead.

Source: llama.cpp, `conversion/glm.py`, `conversion/deepseek.py`, `tools/quantize`.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.golden import make_fixtures
from tests.golden.make_fixtures import FIXTURES

PRE_TOKENIZERS = {"tiny-deepseek": "deepseek-v3", "tiny-llama": "llama-bpe"}
"""`tokenizer.ggml.pre` of a fixture; "glm4" where absent. Only the GLM files are used for text."""

QUANTISED = {
    "tiny-glm": ["F32", "Q8_0", "Q4_K_M"],
    "wide-glm": ["Q6_K", "Q4_K_M"],
    "tiny-deepseek": ["Q8_0"],
    "tiny-llama": ["Q8_0"],
}
SPLIT = "tiny-glm-Q8_0"
TENSORS_PER_SHARD = 60


def convert(source: Path, checkpoint: Path, pre_tokenizer: str, target: Path) -> None:
    """Run convert_hf_to_gguf.py in this process with the pre-tokenizer's name given."""
    sys.path.insert(0, str(source))
    import convert_hf_to_gguf
    from conversion.base import TextModel
    from conversion.deepseek import DeepseekV32Model

    TextModel.get_vocab_base_pre = named(pre_tokenizer)
    DeepseekV32Model.set_vocab = TextModel._set_vocab_gpt2  # it insists on a BOS token
    sys.argv = ["convert", str(checkpoint), "--outtype", "f32", "--outfile", str(target)]
    convert_hf_to_gguf.main()


def named(pre_tokenizer: str) -> Callable[..., str]:
    """A stand-in for the converter's look-up that always answers the same."""
    return lambda *_: pre_tokenizer


def quantise(tools: Path, whole: Path, kind: str) -> Path:
    """Run llama-quantize; F32 is the converter's file itself."""
    if kind == "F32":
        return whole
    target = whole.with_name(whole.name.replace("F32", kind))
    subprocess.run([tools / "llama-quantize", whole, target, kind, "1"], check=True)
    return target


def keep(tools: Path, file: Path) -> None:
    """Move a file into the fixtures, in two or more shards if it is the one to be split."""
    if file.stem != SPLIT:
        file.rename(FIXTURES / file.name)
        return
    split = [tools / "llama-gguf-split", "--split", "--split-max-tensors", str(TENSORS_PER_SHARD)]
    subprocess.run([*split, file, FIXTURES / file.stem], check=True)


def main() -> None:
    """Make every fixture anew."""
    source, tools, scratch = (Path(argument) for argument in sys.argv[1:])
    for name, kinds in QUANTISED.items():
        checkpoint = (FIXTURES if name == "tiny-glm" else scratch) / name
        make_fixtures.write_checkpoint(name, checkpoint)
        whole = scratch / f"{name}-F32.gguf"
        convert(source, checkpoint, PRE_TOKENIZERS.get(name, "glm4"), whole)
        files = [quantise(tools, whole, kind) for kind in kinds]
        for file in files:
            keep(tools, file)


if __name__ == "__main__":
    main()
