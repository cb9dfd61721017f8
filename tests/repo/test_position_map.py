from __future__ import annotations

import random

import pytest

from longlens.errors import ShapeError
from longlens.repo.anchors import cut_lines
from longlens.repo.history import advance, new_history
from longlens.repo.pack import Pack
from longlens.repo.pieces import FileVersion, file_piece
from longlens.repo.position_map import PositionMap, TokenKind
from longlens.repo.versions import CurrentLine
from longlens.text.tokenizer import Tokenizer
from tests.text.vocabularies import glm_json

TOKENIZER = Tokenizer.from_json(glm_json())
OFFSET = 7


def map_of(pack: Pack) -> PositionMap:
    ids = pack.token_ids(TOKENIZER.encode_bytes)
    return PositionMap(pack.pieces, ids, TOKENIZER.token_bytes, offset=OFFSET)


def token_texts(pack: Pack) -> list[bytes]:
    return [TOKENIZER.token_bytes(token_id) for ids in pack.token_ids(TOKENIZER.encode_bytes) for token_id in ids]


def random_line(rng: random.Random) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return b""
    if kind == 1:
        return b"def f%d():" % rng.randrange(99)
    if kind == 2:
        return rng.randbytes(rng.randrange(24)).replace(b"\n", b"")
    return [b"   ", "é x = <|user|> 世界 §3:4".encode(), b"\r"][kind - 3]


def random_file(rng: random.Random) -> bytes:
    end = rng.choice([b"\n", b"\r\n"])
    return end.join(random_line(rng) for _ in range(rng.randrange(40))) + rng.choice([b"", b"\n"])


def test_every_token_of_1000_random_files_is_brought_back_to_its_line() -> None:
    rng = random.Random(7)
    files = [FileVersion(tag, f"f{tag}.py", random_file(rng)) for tag in range(1, 1001)]
    pack = Pack(tuple(file_piece(file, "anchors", is_new=False) for file in files))
    positions = map_of(pack)
    texts = iter(token_texts(pack))
    position = OFFSET
    for file, piece in zip(files, pack.base, strict=True):
        byte, shown = 0, [b""] * (len(piece.lines))
        while byte < len(piece.data):
            place = positions.place(position)
            text = next(texts)
            line = piece.data.count(b"\n", 0, byte)
            assert (place.path, place.line) == (file.path, line or None)
            if place.kind == TokenKind.ANCHOR:
                assert piece.lines[line].anchor <= byte < piece.lines[line].anchor_end
            shown[line] += text
            byte += len(text)
            position += 1
    assert position == positions.end


def test_every_line_of_changed_files_is_found_by_its_current_number() -> None:
    rng = random.Random(8)
    before = {f"f{number}.py": random_file(rng) for number in range(60)}
    after = {}
    for path, content in before.items():
        lines = cut_lines(content)
        for _ in range(rng.randrange(5)):
            lines.insert(rng.randrange(len(lines) + 1), random_line(rng) + b"\n")
            lines.pop(rng.randrange(len(lines)))
        after[path] = b"".join(lines)
    pack = advance(new_history(before), after).pack("anchors")
    positions, texts = map_of(pack), token_texts(pack)
    for path, content in after.items():
        for number, line in enumerate(cut_lines(content), start=1):
            tokens = positions.tokens_of(path, number)
            assert tokens is not None
            shown = b"".join(texts[position - OFFSET] for position in tokens)
            assert line.rstrip(b"\r\n") in shown


def test_what_stands_before_and_after_the_pieces_is_outside() -> None:
    positions = map_of(Pack((), ()).asking(b"why?"))
    assert positions.place(OFFSET - 1).kind == TokenKind.OUTSIDE
    assert positions.place(positions.end).kind == TokenKind.OUTSIDE
    assert positions.place(OFFSET).kind == TokenKind.HEADER
    assert positions.place(positions.end - 1).kind == TokenKind.QUESTION
    assert list(positions.piece_range(0)) == list(range(OFFSET, positions.end))


def test_an_anchor_leads_to_the_line_as_it_is_now() -> None:
    history = advance(new_history({"a": b"1\n2\n3\n"}), {"a": b"0\n1\n3\n"})
    history = advance(history, {"b": b"0\n1\n3\n"})
    positions = map_of(history.pack("all"))
    assert positions.resolve_anchor("1:1") == CurrentLine("b", 2, False)
    assert positions.resolve_anchor("§1:2") == CurrentLine("b", 2, True)
    assert positions.resolve_anchor("2:3") == CurrentLine("b", 3, False)
    assert positions.resolve_anchor("3:1") == CurrentLine("b", 1, False)


@pytest.mark.parametrize("anchor", ["1:4", "1:0", "9:1", "0:1", "a:b", "", "1:1:1", "1", "99999999999:1"])
def test_an_anchor_that_the_pack_does_not_have_leads_nowhere(anchor: str) -> None:
    positions = map_of(new_history({"a": b"1\n2\n3\n"}).pack("all"))
    assert positions.resolve_anchor(anchor) is None


def test_tokens_that_spell_something_else_are_refused() -> None:
    pack = new_history({"a": b"1\n"}).pack("all")
    with pytest.raises(ShapeError, match="piece 0"):
        PositionMap(pack.pieces, [TOKENIZER.encode_bytes(b"other")], TOKENIZER.token_bytes)
