"""Write the small Hugging Face checkpoints that the GGUF fixtures are converted from.

    python -m tests.golden.make_fixtures SCRATCH

`tests/fixtures/tiny-glm` is kept in the repository. SCRATCH receives the others, which are only
kept as GGUF files (see make_gguf_fixtures.py, which calls this).

The tokenizer is a byte-level BPE with GLM-4's pre-tokenizer and special tokens. It has one word
that no merges lead to (" indexer"), so that `ignore_merges` shows, and the embedding has three
rows more than there are tokens, as in the released checkpoints.

Source: GLM-5.2's tokenizer and prompt format as described in docs of the family; the numbers are
`tiny_models.random_weights`, rounded to bf16.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

from tests.golden import tiny_models

HERE = Path(__file__).parent
FIXTURES = HERE.parent / "fixtures"
SEED = 20260828
TAME = 0.24
VOCAB_SIZE = 352
NUM_LEARNED = 56
WHOLE_WORD = "Ġindexer"

GLM4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|begin_of_audio|>",
    "<|end_of_audio|>",
    "<|begin_of_transcription|>",
    "<|end_of_transcription|>",
    "<|code_prefix|>",
    "<|code_middle|>",
    "<|code_suffix|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "/nothink",
    "<|begin_of_box|>",
    "<|end_of_box|>",
    "<|image|>",
    "<|video|>",
]
UNMARKED = ("<think>", "</think>", "<tool_", "</tool_", "<arg_", "</arg_", "/nothink")
"""Beginnings of added tokens that the checkpoint does not mark as special: decoding shows them."""

TRAINING_TEXT = """
def read(self, path: str) -> int:
    for index in range(len(self.tokens)):
        if self.tokens[index] is None:
            return self.position + index
    raise ValueError("the token is not in the page")
The router chooses the experts and the indexer chooses the tokens that the layer reads.
import numpy as np
"""


def tokenizer() -> Tokenizer:
    """A tokenizer of 349 tokens: 256 bytes, 56 merges, one whole word, 36 special tokens."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = glm4_pre_tokenizer()
    trainer = BpeTrainer(
        vocab_size=256 + NUM_LEARNED,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(TRAINING_TEXT.splitlines(keepends=True), trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab = learned["vocab"] | {WHOLE_WORD: len(learned["vocab"])}
    merges = [tuple(pair) for pair in learned["merges"]]
    result = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    result.pre_tokenizer = glm4_pre_tokenizer()
    result.decoder = decoders.ByteLevel()
    result.post_processor = processors.ByteLevel(trim_offsets=False)
    result.add_tokens(
        [AddedToken(text, special=not text.startswith(UNMARKED), normalized=False) for text in SPECIAL_TOKENS]
    )
    return result


def glm4_pre_tokenizer() -> Any:
    """Split as GLM-4 does, then write bytes as letters."""
    split = pre_tokenizers.Split(Regex(GLM4_PATTERN), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, letters])


def small_glm(schedule: str, **changes: Any) -> tiny_models.Config:
    """Config of a fixture: as `tiny_models`, with widths that quantisation blocks divide."""
    config = tiny_models.CASES["glm_topk48"] | {
        "dtype": "bfloat16",
        "vocab_size": VOCAB_SIZE,
        "num_hidden_layers": len(schedule),
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "q_lora_rank": 32,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 32,
        "qk_head_dim": 48,
        "v_head_dim": 64,
        "head_dim": 32,
        "index_n_heads": 2,
        "index_head_dim": 64,
        "index_topk": 32,
        "index_topk_freq": 4,
        "index_skip_topk_offset": 3,
        "index_topk_pattern": None,
        "index_share_for_mtp_iteration": True,
        "indexer_types": [{"F": "full", "S": "shared"}[letter] for letter in schedule],
        "first_k_dense_replace": 1,
        "mlp_layer_types": ["dense"] + ["sparse"] * (len(schedule) - 1),
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "eos_token_id": [special_id(t) for t in ("<|endoftext|>", "<|user|>", "<|observation|>")],
        "pad_token_id": special_id("<|endoftext|>"),
    }
    return config | changes


def special_id(text: str) -> int:
    """Token id of a special token; they follow the bytes, the merges and the whole word."""
    return 256 + NUM_LEARNED + 1 + SPECIAL_TOKENS.index(text)


def configs() -> dict[str, tiny_models.Config]:
    """Every fixture's config.json, by the name of the fixture."""
    block = {"vocab_size": VOCAB_SIZE, "hidden_size": 64, "intermediate_size": 96}
    deepseek = (
        tiny_models.CASES["deepseek_topk48"]
        | block
        | {
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": 32,
            "kv_lora_rank": 32,
            "qk_nope_head_dim": 32,
            "qk_head_dim": 48,
            "v_head_dim": 64,
            "index_n_heads": 2,
            "index_head_dim": 64,
            "index_topk": 32,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
        }
    )
    return {
        "tiny-glm": small_glm("FFSF", hidden_size=64, num_nextn_predict_layers=1),
        "wide-glm": small_glm("FS", hidden_size=256),
        "tiny-deepseek": deepseek,
        "tiny-llama": tiny_models.CASES["llama_llama3"] | block | {"num_hidden_layers": 2},
    }


def write_checkpoint(name: str, folder: Path) -> None:
    """Write a Hugging Face folder: bf16 weights in two shards (router biases fp32), text files."""
    folder.mkdir(parents=True, exist_ok=True)
    config = configs()[name]
    weights = tiny_models.random_weights(config, SEED, residual_gain=TAME)
    tensors = {key: stored(key, array) for key, array in weights.items()}
    write_shards(tensors, folder)
    write_json(folder / "config.json", config)
    ids = {key: config[key] for key in ("eos_token_id", "pad_token_id") if key in config}
    write_json(folder / "generation_config.json", ids | {"temperature": 1.0, "top_p": 0.95})
    tokenizer().save(str(folder / "tokenizer.json"))
    end = "<|endoftext|>"
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "pad_token": end}
    limits = {"model_max_length": config["max_position_embeddings"]}
    limits["clean_up_tokenization_spaces"] = False
    write_json(folder / "tokenizer_config.json", names | limits)
    shutil.copy(HERE / "fixture_sources" / "chat_template.jinja", folder)


def stored(name: str, array: np.ndarray) -> torch.Tensor:
    """bf16, except the router's bias, which every released checkpoint keeps in fp32."""
    tensor = torch.from_numpy(array)
    return tensor if name.endswith("e_score_correction_bias") else tensor.to(torch.bfloat16)


def write_shards(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """Two shards of about the same size and the index that says which tensor lies where."""
    total = sum(tensor.nbytes for tensor in tensors.values())
    shards: tuple[dict[str, torch.Tensor], ...] = ({}, {})
    written = 0
    for name, tensor in tensors.items():
        shards[written * 2 >= total][name] = tensor
        written += tensor.nbytes
    places = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    write_json(folder / "model.safetensors.index.json", index)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Write every checkpoint: tiny-glm into the fixtures, the others into the scratch folder."""
    for name in configs():
        write_checkpoint(name, (FIXTURES if name == "tiny-glm" else Path(sys.argv[1])) / name)


if __name__ == "__main__":
    main()
