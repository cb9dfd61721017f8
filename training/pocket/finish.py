"""Make the checkpoint folder and the GGUF file out of a run's shards.

    PYTHONPATH=src python -m training.pocket.finish RUN TOKENIZER_JSON FOLDER [TYPE]

RUN holds the *.safetensors of a run; FOLDER becomes a Hugging Face folder, and FOLDER/pocket-TYPE.gguf (Q8_0 where no
TYPE is given) the file that is shipped.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from longlens.convert.quantise import WRITABLE_TYPES
from longlens.convert.to_gguf import convert_to_gguf

HERE = Path(__file__).parent
STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")


def write_folder(run: Path, tokenizer: Path, folder: Path) -> None:
    """Put config, tokenizer, template and weights together."""
    folder.mkdir(parents=True, exist_ok=True)
    added = json.loads(tokenizer.read_text())["added_tokens"]
    ids = {entry["content"]: entry["id"] for entry in added}
    ends = {"eos_token_id": [ids[text] for text in STOPS], "pad_token_id": ids[STOPS[0]]}
    config = json.loads((HERE / "config.json").read_text()) | ends
    write_json(folder / "config.json", config)
    # Low: answers are copied, and a model of this size wanders.
    write_json(folder / "generation_config.json", ends | {"temperature": 0.3, "top_p": 0.95})
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": STOPS[0], "pad_token": STOPS[0]}
    limits = {"model_max_length": config["max_position_embeddings"], "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", names | limits)
    shutil.copy(tokenizer, folder / "tokenizer.json")
    shutil.copy(HERE / "chat_template.jinja", folder)
    weight_map = {}
    for shard in sorted(run.glob("*.safetensors")):
        shutil.copy(shard, folder)
        header = shard.read_bytes()[: 8 + int.from_bytes(shard.read_bytes()[:8], "little")][8:]
        weight_map |= {name: shard.name for name in json.loads(header) if name != "__metadata__"}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    run, tokenizer, folder = (Path(argument) for argument in sys.argv[1:4])
    kind = sys.argv[4] if len(sys.argv) > 4 else "Q8_0"
    element_type = next(known for known in WRITABLE_TYPES if known == kind)
    write_folder(run, tokenizer, folder)
    target = folder / f"pocket-{kind}.gguf"
    print(target, convert_to_gguf(folder, target, element_type, name="pocket"))


if __name__ == "__main__":
    main()
