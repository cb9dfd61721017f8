from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from longlens.repo.anchors import cut_lines
from longlens.repo.history import advance, new_history

FILES = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.sampled_from([b"1\n", b"2\n"]), max_size=5).map(b"".join)
)


@given(states=st.lists(FILES, min_size=1, max_size=5))
def test_events_lead_from_state_to_state_and_leave_what_was_before(states: list[dict[str, bytes]]) -> None:
    history = new_history(states[0])
    for state in states[1:]:
        before = history.pack("anchors").user_bytes
        history = advance(history, state)
        assert history.pack("anchors").user_bytes.startswith(before)
        assert {path: file.content for path, file in history.files().items()} == state
        tags = [file.tag for file in history.files().values()]
        assert len(tags) == len(set(tags))


def test_an_edit_a_new_file_a_deletion_and_a_rename_are_told_in_a_fixed_order() -> None:
    base = new_history({"a": b"1\n", "b": b"2\n", "c": b"3\n"})
    text = advance(base, {"a": b"1\n5\n", "d": b"4\n", "e": b"3\n"}).pack("none").user_bytes.decode()
    assert text.endswith("§4 e renamed from 3\n§5 a changed from 1\n@@ -1 +1,2 @@\n 1\n+5\n§6 d new\n4\n§2 b deleted\n")


def test_nothing_happened_to_the_same_files() -> None:
    base = new_history({"a": b"1\n"})
    assert advance(base, {"a": b"1\n"}) == base


def test_a_last_newline_alone_is_no_change() -> None:
    base = new_history({"a": b"1\n"})
    assert cut_lines(b"1") == cut_lines(b"1\n")
    assert advance(base, {"a": b"1"}) == base


def test_a_file_of_which_nothing_is_known_stays() -> None:
    base = new_history({"a": b"1\n", "b": b"2\n"})
    assert advance(base, {"b": b"2\n"}, unknown={"a"}) == base


def test_a_file_that_comes_back_is_new() -> None:
    base = new_history({"a": b"1\n", "b": b""})
    history = advance(advance(base, {"b": b""}), {"a": b"1\n", "b": b""})
    assert [event.kind for event in history.events] == ["deleted", "new"]
    assert history.files()["a"].tag == 3


def test_the_base_is_in_the_order_of_the_paths_bytes() -> None:
    paths = ["b", "a/b", "a.b", "ä", "\udcff", "Z"]
    assert [file.path for file in new_history(dict.fromkeys(paths, b"")).base] == [
        "Z",
        "a.b",
        "a/b",
        "b",
        "ä",
        "\udcff",
    ]


def test_empty_files_are_never_taken_for_renamed() -> None:
    history = advance(new_history({"a": b""}), {"b": b""})
    assert [event.kind for event in history.events] == ["new", "deleted"]
