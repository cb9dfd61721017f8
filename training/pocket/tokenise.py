"""Turn the collected sources into token arrays that travel to the training machine.

    python -m training.pocket.tokenise FOLDER MOST_TOKENS_A_PACKAGE     -> FOLDER/{train,held}.npz.xz

Files are stored as lines; a definition's line number and name are stored beside them, so that the loader builds packs
without looking at text.
"""

from __future__ import annotations

import io
import json
import lzma
import re
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

DEFINITION = re.compile(r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)")
BATCH_FILES = 256
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lp": 1, "lc": 2, "pb": 1, "dict_size": 1 << 27}]


class Shelf:
    """Token ids of many files, joined, with where each begins and what it defines."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[np.ndarray] = []
        self._names: dict[str, int] = {}
        self._definitions: list[tuple[int, int, int]] = []
        self._files: list[tuple[str, str]] = []

    def add(self, entries: list[dict[str, str]]) -> list[int]:
        """Tokenise files; returns how many tokens each has."""
        texts = [entry["text"].rstrip("\n") + "\n" for entry in entries]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for entry, text, encoding in zip(entries, texts, encodings, strict=True):
            for number, line in enumerate(text.split("\n")):
                match = DEFINITION.match(line)
                if match:
                    name = self._names.setdefault(match[1], len(self._names))
                    self._definitions.append((len(self._files), number, name))
            self._files.append((entry["package"], entry["path"]))
            self._tokens.append(np.array(encoding.ids, np.uint16))
        return [len(encoding.ids) for encoding in encodings]

    def save(self, path: Path) -> None:
        """Write everything into one compressed file."""
        buffer = io.BytesIO()
        text = json.dumps({"files": self._files, "names": list(self._names)}).encode()
        np.savez(
            buffer,
            tokens=np.concatenate(self._tokens),
            lengths=np.array([len(ids) for ids in self._tokens], np.uint32),
            definitions=np.array(self._definitions, np.uint32),
            text=np.frombuffer(text, np.uint8),
        )
        path.write_bytes(lzma.compress(buffer.getvalue(), format=lzma.FORMAT_XZ, filters=FILTERS))
        print(path.name, f"{sum(map(len, self._tokens)):,} tokens, {len(self._files)} files,", path.stat().st_size)


def main() -> None:
    """Tokenise the training and the held-out packages."""
    folder, most = Path(sys.argv[1]), int(sys.argv[2])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    shelves = {False: Shelf(tokenizer), True: Shelf(tokenizer)}
    waiting: dict[bool, list[dict[str, str]]] = {False: [], True: []}
    seen: dict[str, int] = {}
    with (folder / "sources.jsonl").open() as lines:
        for line in lines:
            entry = json.loads(line)
            if seen.get(entry["package"], 0) > most:
                continue
            # Bytes are a fair guess of tokens while the file still waits.
            seen[entry["package"]] = seen.get(entry["package"], 0) + len(entry["text"]) * 10 // 33
            held_out = bool(entry["held_out"])
            waiting[held_out].append(entry)
            if len(waiting[held_out]) == BATCH_FILES:
                shelves[held_out].add(waiting[held_out])
                waiting[held_out] = []
    for held_out, name in ((True, "held"), (False, "train")):
        if waiting[held_out]:
            shelves[held_out].add(waiting[held_out])
        shelves[held_out].save(folder / f"{name}.npz.xz")


if __name__ == "__main__":
    main()
