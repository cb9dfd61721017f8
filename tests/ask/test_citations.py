from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.ask.citations import CitationWriter
from longlens.repo.history import new_history
from longlens.repo.position_map import PositionMap

FILES = {"src/app.py": b"def a():\n    pass\n", "src/b.py": b"x = 1\n"}


def positions() -> PositionMap:
    pack = new_history(FILES).pack("all")
    return PositionMap(pack.pieces, pack.token_ids(list), lambda token_id: bytes([token_id]))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("see §1:2.", "see src/app.py:2."),
        ("§1:1 and §2:1", "src/app.py:1 and src/b.py:1"),
        ("at 12:42 o'clock", "at 12:42 o'clock"),
        ("§9:1 and §1:77", "§9:1 and §1:77"),
        ("law §5", "law §5"),
        ("open §1:", "open §1:"),
    ],
)
def test_anchors_of_the_pack_become_paths_and_nothing_else_does(written: str, read: str) -> None:
    writer = CitationWriter(positions())
    assert writer.push(written) + writer.finish() == read


@given(cuts=st.lists(st.integers(0, 40), max_size=6))
def test_an_answer_reads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    text = "it is §1:1, not §2:1 nor §12: or § alone §1:2"
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    writer = CitationWriter(positions())
    pieces = [writer.push(text[a:b]) for a, b in pairwise(places)]
    assert "".join(pieces) + writer.finish() == "it is src/app.py:1, not src/b.py:1 nor §12: or § alone src/app.py:2"
    assert writer.cited == [("src/app.py", 1), ("src/b.py", 1), ("src/app.py", 2)]
