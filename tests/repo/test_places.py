from __future__ import annotations

import math

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
    assert 10 < len(shares) < 30
    assert counter.num_selections == 30


def surprise(size: int, rate: float, usual: float) -> float:
    missed = (1 - rate) * math.log((1 - rate) / (1 - usual)) if rate < 1 else 0
    return size * (rate * math.log(rate / usual) + missed)


def test_a_score_is_the_surprise_over_the_rate_around_the_line_and_anywhere() -> None:
    positions = map_of(HISTORY)
    third, first = tokens(positions, "a.py", 3), tokens(positions, "b.py", 1)
    shares = list(counter_of(positions, third, first, first, first).line_shares(positions).values())
    # 251 tokens are counted. 12 stand before line 3 of a.py and 6 behind line 1 of b.py; on the other side 64 are near.
    near, anywhere = 1 / (12 + 64 + 2), (5 * 3 / 4 + 1) / (251 - 6 + 2)
    assert anywhere > near
    scores = [surprise(6, 1 / 4, anywhere), surprise(5, 3 / 4, 1 / (64 + 6 + 2))]
    assert shares == pytest.approx([score / sum(scores) for score in scores])


def test_a_line_counts_as_much_as_in_the_layer_that_it_surprises_most() -> None:
    positions = map_of(HISTORY)
    third, first = tokens(positions, "a.py", 3), tokens(positions, "b.py", 1)
    counter = PlaceCounter(positions.end)
    for layer, row in ((1, third), (1, third), (2, third[:2]), (3, first), (4, first[:1])):
        counter.add(layer, np.array([row]))
    scores = [surprise(6, 1, 1 / (12 + 64 + 2)), surprise(5, 1, 1 / (64 + 6 + 2))]
    shares = list(counter.line_shares(positions).values())
    assert shares == pytest.approx([score / sum(scores) for score in scores])


def test_a_line_that_one_layer_chooses_as_a_line_stands_before_what_diffuse_layers_choose() -> None:
    positions = map_of(HISTORY)
    random = np.random.default_rng(3)
    wanted = tokens(positions, "a.py", 23)
    everywhere = [p for line in range(1, 41) for p in tokens(positions, "a.py", line)]
    generic = [tokens(positions, "a.py", line)[0] for line in (2, 9, 16, 30, 37)]
    counter = PlaceCounter(positions.end)
    for _ in range(12):
        for layer in (0, 1, 2):
            counter.add(
                layer, np.array([generic + random.permutation(np.setdiff1d(everywhere, generic))[:40].tolist()])
            )
        counter.add(6, np.array([wanted[1:] + random.permutation(np.setdiff1d(everywhere, wanted))[:40].tolist()]))
    shares = counter.line_shares(positions)
    first, second = sorted(shares, key=lambda line: -shares[line])[:2]
    assert (first.path, first.line) == ("a.py", 23)
    assert shares[first] > 2 * shares[second]
    assert counter.places(positions)[0] == Place("a.py", 23, 23, round(shares[first], 6))


def test_a_layer_that_reads_what_is_near_says_little_about_it() -> None:
    positions = map_of(HISTORY)
    near = [p for line in range(31, 41) for p in tokens(positions, "a.py", line)] + tokens(positions, "b.py", 1, 2)
    counter = PlaceCounter(positions.end)
    counter.add(0, np.array([near] * 9))
    counter.add(4, np.array([tokens(positions, "a.py", 5)] * 9))
    shares = {(line.path, line.line): share for line, share in counter.line_shares(positions).items()}
    assert all(shares["a.py", 5] > 5 * shares["a.py", line] for line in range(37, 41))


def test_a_block_that_is_chosen_whole_is_one_range() -> None:
    positions = map_of(HISTORY)
    block = [p for line in range(11, 31) for p in tokens(positions, "a.py", line)]
    (place,) = counter_of(positions, block, block).places(positions)
    assert place == Place("a.py", 11, 30, 1.0)


def test_what_the_background_chooses_as_often_is_not_counted() -> None:
    positions = map_of(HISTORY)
    usual, wanted = tokens(positions, "a.py", 7, 30), tokens(positions, "b.py", 1)
    counter, background = counter_of(positions, usual + wanted, usual), counter_of(positions, usual)
    assert counter.places(positions)[0].path == "a.py"
    assert counter.places(positions, background=background) == [Place("b.py", 1, 1, 1.0)]
    assert list(counter.line_shares(positions, background=background).values()) == [1.0]
    assert background.places(positions, background=background) == []


def test_a_rate_that_equals_the_background_is_not_counted_whatever_the_last_digit_of_a_sum() -> None:
    positions = map_of(HISTORY)
    wanted, usual, other = (tokens(positions, "a.py", line) for line in (1, 9, 40))
    # 5 of 7 in both; but sums that begin with 2/7 end elsewhere than sums that begin with nothing.
    background = counter_of(positions, *[usual] * 5, other, other)
    shares = counter_of(positions, *[usual] * 5, wanted, wanted).line_shares(positions, background=background)
    assert [(line.path, line.line) for line in shares] == [("a.py", 1)]


def test_a_background_of_other_layers_or_of_a_shorter_prompt_explains_nothing_more() -> None:
    positions = map_of(HISTORY)
    counter = counter_of(positions, tokens(positions, "a.py", 7), tokens(positions, "b.py", 2))
    other, short = PlaceCounter(positions.end), PlaceCounter(8)
    other.add(1, np.array([tokens(positions, "a.py", 7)]))
    short.add(3, np.array([tokens(positions, "a.py", 7)]))
    for background in (other, short, PlaceCounter(positions.end)):
        assert counter.line_shares(positions, background=background) == counter.line_shares(positions)


def test_neighbouring_lines_become_one_range() -> None:
    positions = map_of(HISTORY)
    near = tokens(positions, "a.py", 15, 16, 18)
    rows = [near, near, near, tokens(positions, "b.py", 2)]
    (first, *_) = counter_of(positions, *rows).places(positions)
    assert (first.path, first.start, first.end) == ("a.py", 15, 18)
    assert 0.75 < first.share < 1
    assert first.as_json() == {"path": "a.py", "start": 15, "end": 18, "share": first.share}


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
    before = counter.line_shares(positions)
    counter.add(5, np.array([[-1, -1]]))
    with np.errstate(all="raise"):
        assert counter.line_shares(positions) == before
    assert counter_of(positions, [-1]).places(positions) == []
    assert PlaceCounter(positions.end).places(positions) == []


def test_the_most_looked_at_come_first_and_no_more_than_wanted() -> None:
    positions = map_of(HISTORY)
    rows = [tokens(positions, "a.py", 3), *[tokens(positions, "a.py", 33)] * 2, tokens(positions, "b.py", 1)]
    assert [place.start for place in counter_of(positions, *rows).places(positions, most=1)] == [33]


def test_positions_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="layer 5"):
        PlaceCounter(3).add(5, np.array([1, 2]))
