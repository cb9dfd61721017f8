"""Record how others split text and render conversations: token_ids.json and conversations.json.

    LLAMA_CPP_LIB_PATH=<folder of libllama.so> python -m tests.golden.make_text_golden

Token ids come twice: from the tokenizers library on tokenizer.json and from llama.cpp on the GGUF
file of the same fixture. Conversations are rendered by transformers with the fixture's template.
"""

# ruff: noqa: RUF001  (look-alike characters are what is tested here)

import json
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.golden.make_fixtures import FIXTURES, SPECIAL_TOKENS

FOLDER = Path(__file__).parent
CHECKPOINT = FIXTURES / "tiny-glm"

TEXTS = [
    "",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    " \n",
    "\n ",
    "\t",
    "\r\n",
    " \t \n\n  x",
    "a",
    " a",
    "  a",
    "a ",
    "Hello, world!",
    "hello  world",
    "The token is not in the page.",
    "the indexer",
    "indexer",
    " indexer",
    " indexers",
    "  indexer",
    "Indexer indexer",
    "def read(self, path: str) -> int:\n    return self.position + index\n",
    "for index in range(len(self.tokens)):\n\tif x[index]!=None:\r\n\t\tbreak",
    "if (a && b || !c) { return *p++ << 2; }  // done\n\n\n",
    "import numpy as np\n\n\n\ndef f():\n        pass\n    \n",
    "x=1;y=22;z=333;w=4444;v=55555",
    "1234567890",
    "3.14159e-10",
    "0xDEADBEEF 0b1010 1_000_000",
    "٣٤٥ ৬৭ ½ ²",
    "v1.2.3-rc4",
    "I'm you're he'll WE'VE it'S 'tis don't",
    "o'clock 'll 'LL 's'S",
    "snake_case camelCase KebAB-case",
    "中文字符,测试。",
    "日本語のテスト、カタカナ",
    "한국어 텍스트",
    "Привет, мир! Ещё",
    "Ελληνικά ά",
    "עברית مرحبا",
    "हिन्दी ไทย",
    "naïve café e\u0301 \u00e9 ﬁ",
    "😀",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈",
    "a😀b 😀😀",
    "\u00a0non\u00a0breaking\u2003em\u200bzero",
    "\u3000全角\u3000",
    "\ufeffBOM",
    "\u0000\u0001\u007f",
    "…—“quotes”‘x’",
    "###  ---  ===\n***\n",
    "https://example.org/a?b=c&d=%20#e",
    'a\\b\\n"c"',
    "<|user|>",
    "<|endoftext|>tail",
    "[gMASK]<sop><|user|>Hi<|assistant|><think>",
    "<think></think>",
    "x<think>y</think>z",
    "<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>",
    "<|user",
    "|>user<|",
    " <|user|> ",
    "/nothink",
    "please /nothink now",
    "<|observation|>\n<|user|>",
    "<tool_response>ok</tool_response>",
    "<｜begin▁of▁sentence｜>",
    "<s></s>[MASK][sMASK]<eop>",
]

SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Find text — “any” text.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
            "required": ["query"],
        },
    },
}
CALL = {"function": {"name": "search", "arguments": {"query": 'a "b" <c>', "limit": 3}}}
EMPTY_CALL = {"function": {"name": "now", "arguments": {}}}
CONVERSATIONS: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
    ([{"role": "user", "content": "Hello"}], {}),
    ([{"role": "user", "content": "Hello"}], {"enable_thinking": False}),
    ([{"role": "user", "content": "Hello"}], {"reasoning_effort": "high"}),
    ([{"role": "user", "content": "Hello"}], {"reasoning_effort": "low"}),
    ([{"role": "system", "content": "S"}, {"role": "user", "content": "Hello"}], {}),
    ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], {}),
    (
        [
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": " one \n", "reasoning_content": "count"},
            {"role": "user", "content": "2"},
            {"role": "assistant", "content": "<think>again</think>\ntwo"},
            {"role": "user", "content": "3"},
        ],
        {},
    ),
    (
        [
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": " one \n", "reasoning_content": "count"},
            {"role": "user", "content": "2"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "3"},
        ],
        {"clear_thinking": False},
    ),
    (
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "find"},
            {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": [CALL, EMPTY_CALL]},
            {"role": "tool", "content": "found"},
            {"role": "tool", "content": "12:00"},
        ],
        {"tools": [SEARCH]},
    ),
    ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], {"add_generation_prompt": False}),
]


def token_ids(vocab: Any, text: str, *, parse_special: bool) -> list[int]:
    """llama.cpp's ids of a text, without anything added in front."""
    raw = text.encode()
    buffer = (llama.llama_token * (len(raw) + 8))()
    count = llama.llama_tokenize(vocab, raw, len(raw), buffer, len(buffer), False, parse_special)
    return list(buffer[:count])


def without_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer for text in which control tokens are only letters."""
    description = json.loads(tokenizer.to_str())
    description["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(description))


def record_tokens() -> list[dict[str, Any]]:
    """Ids of every text, and of every special token, from both libraries."""
    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    plain = without_added_tokens(tokenizer)
    parameters = llama.llama_model_default_params()
    parameters.vocab_only = True
    file = str(FIXTURES / "tiny-glm-F32.gguf").encode()
    vocab = llama.llama_model_get_vocab(llama.llama_model_load_from_file(file, parameters))
    return [
        {
            "text": text,
            "ids": tokenizer.encode(text, add_special_tokens=False).ids,
            "ids_as_text": plain.encode(text, add_special_tokens=False).ids,
            "llama_cpp_ids": token_ids(vocab, text, parse_special=True),
        }
        for text in [*TEXTS, *SPECIAL_TOKENS]
    ]


def record_conversations() -> list[dict[str, Any]]:
    """Rendered prompt of every conversation."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(CHECKPOINT)
    rendered = []
    for messages, arguments in CONVERSATIONS:
        prompt = tokenizer.apply_chat_template(
            messages, tokenize=False, **({"add_generation_prompt": True} | arguments)
        )
        rendered.append({"messages": messages, "arguments": arguments, "prompt": prompt})
    return rendered


def main() -> None:
    """Write both files."""
    for name, content in (
        ("token_ids.json", record_tokens()),
        ("conversations.json", record_conversations()),
    ):
        lines = ",\n".join(json.dumps(entry) for entry in content)
        (FOLDER / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
