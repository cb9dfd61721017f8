from __future__ import annotations

from typing import Any

from longlens.ask.report import pack_as_json, pack_lines, place_lines
from longlens.repo.base_store import UpdatedPack
from longlens.repo.files import LeftOut
from longlens.repo.history import new_history
from longlens.repo.places import Place

PLACES = [Place("a.py", 1, 5, 0.5), Place("b.py", 7, 7, 0.3, is_removed=True), Place("c.py", 2, 3, 0.1)]


def ready(**changes: Any) -> Any:
    pack = new_history({"a.py": b"x\n"}).pack("anchors")
    left_out = (LeftOut("b.bin", "binary"), LeftOut("c.bin", "binary"))
    values: dict[str, Any] = {
        "pack": pack,
        "ids": ((1, 2, 3),),
        "base_tokens": 3,
        "changes_tokens": 0,
        "left_out": left_out,
        "is_new_base": True,
        "said": ("made anew",),
    }

    class Ready:
        updated = UpdatedPack(**(values | changes))

    return Ready()


def test_places_are_listed_with_their_shares() -> None:
    lines = list(place_lines(PLACES, most=2))
    assert lines[0] == "looked at:"
    assert lines[1].split() == ["a.py:1-5", "50.0%"]
    assert "b.py:7" in lines[2]
    assert "removed since" in lines[2]
    assert "1 more places, 10.0% together" in lines[3]


def test_nothing_looked_at_is_no_line() -> None:
    assert list(place_lines([])) == []


def test_what_was_left_out_is_counted_and_named_if_verbose() -> None:
    short, long = (" ".join(pack_lines(ready(), is_verbose=verbose)) for verbose in (False, True))
    assert "2 paths left out (2 binary)" in short
    assert "left out: b.bin: binary" in long
    assert "base 3 tokens (new)" in short
    assert "made anew" in short


def test_the_pack_as_json_names_every_reason() -> None:
    data = pack_as_json(ready(is_new_base=False))
    assert data["left_out"] == [{"path": "b.bin", "reason": "binary"}, {"path": "c.bin", "reason": "binary"}]
    assert (data["files"], data["base_tokens"], data["is_new_base"]) == (1, 3, False)
