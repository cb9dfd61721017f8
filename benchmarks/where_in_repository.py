"""How often a model finds definitions in one long pack of a real repository: read once, forked for every question.

    python benchmarks/where_in_repository.py MODEL ROOT CONTEXT QUESTIONS DEVICE

Every definition (`def` or `class`, a name that the pack defines once) may be asked about; QUESTIONS of them are taken
at even distances. An answer is right if it is the path and line, and nothing else. Prints one JSON object.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

import longlens
from longlens.ask.answer import RepositoryQuestion, prepare
from longlens.repo.pack import Pack

_DEFINITION = re.compile(rb"[ \t]*(?:async[ \t]+)?(?:def|class)\s+(\w{4,})")


def definitions(pack: Pack) -> list[tuple[str, str, int]]:
    """(name, path, line) of every name that the base defines once, in order."""
    found = []
    for piece in pack.base:
        if piece.path.endswith(".py"):
            for line in piece.lines:
                match = _DEFINITION.match(piece.data[line.start :])
                if match and line.number:
                    found.append((match[1].decode(), piece.path, line.number))
    counts = Counter(name for name, _, _ in found)
    return [each for each in found if counts[each[0]] == 1]


def main() -> None:
    name, root, context, questions, device = sys.argv[1:6]
    with longlens.load(name, device=device, context=int(context), dtype="f32") as model:
        conversation = model.opened.conversation
        ready = prepare(model, RepositoryQuestion(Path(root), "Where is `x` defined?", answer_tokens=32))
        ids = list(ready.prompt.token_ids)
        start = ready.positions.piece_range(len(ready.positions.pieces) - 1).start
        tail = ids[ready.positions.end :]
        known = definitions(ready.updated.pack)
        asked = known[:: max(1, len(known) // int(questions))][: int(questions)]
        session = model.session()
        began = time.perf_counter()
        session.extend(ids[:start])
        read_s = time.perf_counter() - began
        results = []
        for symbol, path, line in asked:
            question = Pack(()).asking(f"Where is `{symbol}` defined?".encode())
            with session.fork() as fork:
                own = [i for piece in question.token_ids(conversation.tokenizer.encode_bytes) for i in piece]
                fork.extend([*own, *tail])
                before = len(fork.tokens)
                list(fork.generate(longlens.SamplingParams(max_tokens=16)))
                said = conversation.tokenizer.decode(fork.tokens[before:]).strip()
            anchor = ready.positions.resolve_anchor(said.removeprefix("§"))
            is_right = anchor is not None and (anchor.path, anchor.line) == (path, line)
            results.append({"name": symbol, "place": f"{path}:{line}", "said": said, "is_right": is_right})
    right = sum(result["is_right"] for result in results)
    print(
        json.dumps(
            {
                "prompt_tokens": start,
                "definitions": len(known),
                "asked": len(results),
                "right": right,
                "share": right / max(1, len(results)),
                "read_seconds": round(read_s, 1),
                "answers": results,
            }
        )
    )


if __name__ == "__main__":
    main()
