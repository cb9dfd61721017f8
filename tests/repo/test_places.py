from __future__ import annotations

import numpy as np
import pytest

from longlens.errors import ShapeError
from longlens.repo.history import History, advance, new_history
from longlens.repo.places import Place, PlaceCounter
from longlens.repo.position_map import PositionMap, TokenKind

HISTORY = new_history({"a.py": b"".join(b"line%02d\n" % n for n in range(1, 41)), "b.py": b"first\nsecond\n"})
OFFSET = 10


def map_of(history: History, style: str = "anchors") -> PositionMap:
    pack = history.pack(style).asking(b"where is it?")  # type: ignore[arg-type]
    return PositionMap(pack.pieces, pack.token_ids(list), lambda token_id: bytes([token_id]), offset=OFFSET)


def counter_of(positions: PositionMap, *rows: list[int]) -> PlaceCounter:
    counter = PlaceCounter(positions.end)
    for row in rows:
        counter.add(3, np.array([row]))
    return counter


def tokens(positions: PositionMap, path: str, *lines: int) -> list[int]:
    found = [positions.tokens_of(path, line) for line in lines]
    kept = [position for each in found for position in (each or ())[:-1]]  # without the newline
    return [p for p in kept if positions.place(p).kind == TokenKind.LINE]


def test_shares_of_all_lines_sum_to_one() -> None:
    positions = map_of(HISTORY)
    rows = np.random.default_rng(1).permuted(np.tile(np.arange(positions.end + 5), (30, 1)), axis=1)[:, :40]
    counter = PlaceCounter(positions.end)
    counter.add(0, rows)
    shares = counter.line_shares(positions)
    assert sum(shares.values()) == pytest.approx(1)
    assert len(shares) > 20
    assert counter.num_selections == 30


def test_each_selection_counts_as_much_as_any_other_whatever_its_size() -> None:
    positions = map_of(HISTORY)
    long, short = tokens(positions, "a.py", 3), tokens(positions, "b.py", 1)[:2]
    shares = {
        (line.path, line.line): share
        for line, share in counter_of(positions, long, short).line_shares(positions).items()
    }
    assert shares == {("a.py", 3): pytest.approx(0.5), ("b.py", 1): pytest.approx(0.5)}


def test_neighbouring_lines_become_one_range() -> None:
    positions = map_of(HISTORY)
    near = tokens(positions, "a.py", 5, 6, 8)
    rows = [near, near, near, tokens(positions, "b.py", 2)]
    (first, *_) = counter_of(positions, *rows).places(positions)
    assert first == Place("a.py", 5, 8, 0.75)
    assert first.as_json() == {"path": "a.py", "start": 5, "end": 8, "share": 0.75}


def test_question_headers_anchors_newlines_and_the_answer_are_not_counted() -> None:
    positions = map_of(HISTORY, "all")
    everything = range(positions.end + 20)
    others = [p for p in everything if positions.place(p).kind != TokenKind.LINE]
    newlines = [r[-1] for n in range(1, 41) if (r := positions.tokens_of("a.py", n))]
    assert counter_of(positions, others, newlines).places(positions) == []
    assert counter_of(positions, others, newlines, tokens(positions, "b.py", 2)).places(positions)[0].path == "b.py"


def test_a_token_that_is_always_chosen_alone_is_a_sink_and_a_line_chosen_whole_is_not() -> None:
    positions = map_of(HISTORY)
    sink, whole = tokens(positions, "a.py", 20)[2], tokens(positions, "b.py", 1)
    places = counter_of(positions, *[[sink, *whole]] * 50).places(positions)
    assert places == [Place("b.py", 1, 1, 1.0)]


def test_lines_are_given_where_they_are_now_or_marked_removed() -> None:
    lines = HISTORY.base[0].content.splitlines(keepends=True)
    history = advance(HISTORY, {"c.py": HISTORY.base[0].content, "b.py": HISTORY.base[1].content})
    history = advance(history, {"c.py": b"".join([b"new\n", *lines[:9], *lines[10:]]), "b.py": b"first\nsecond\n"})
    before, after = map_of(HISTORY), map_of(history)
    rows = [tokens(before, "a.py", 30), tokens(before, "a.py", 30), tokens(before, "a.py", 10)]
    counter = counter_of(after, *rows)
    shares = {(line.path, line.line, line.is_removed) for line in counter.line_shares(after)}
    assert shares == {("c.py", 30, False), ("c.py", 10, True)}
    assert [place.is_removed for place in counter_of(after, rows[2]).places(after)] == [True]
    assert counter_of(after, rows[2]).places(after)[0].as_json()["removed"] is True


def test_places_do_not_depend_on_the_order_in_which_layers_are_added() -> None:
    positions = map_of(HISTORY)
    rows = [tokens(positions, "a.py", line, line + 9) for line in range(1, 30)]
    assert counter_of(positions, *rows).places(positions) == counter_of(positions, *reversed(rows)).places(positions)


def test_minus_one_is_no_position_and_an_empty_selection_counts_for_nothing() -> None:
    positions = map_of(HISTORY)
    counter = counter_of(positions, [-1, -1], [*tokens(positions, "b.py", 1)[:1], -1])
    assert counter.num_selections == 1
    assert counter_of(positions, [-1]).places(positions) == []
    assert PlaceCounter(positions.end).places(positions) == []


def test_the_most_looked_at_come_first_and_no_more_than_wanted() -> None:
    positions = map_of(HISTORY)
    rows = [tokens(positions, "a.py", 3), *[tokens(positions, "a.py", 33)] * 2, tokens(positions, "b.py", 1)]
    assert [place.start for place in counter_of(positions, *rows).places(positions, most=1)] == [33]


def test_positions_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="layer 5"):
        PlaceCounter(3).add(5, np.array([1, 2]))
