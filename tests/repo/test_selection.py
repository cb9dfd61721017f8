from __future__ import annotations

from longlens.repo.selection import base_budget, order_by_importance, select


def count(path: str, content: bytes) -> int:
    return len(content)


def test_base_changes_question_and_answer_fill_the_context() -> None:
    assert base_budget(1300, question_tokens=50, answer_tokens=50) == 1000
    assert base_budget(10, question_tokens=50, answer_tokens=50) == 0


def test_everything_is_taken_if_everything_fits() -> None:
    files = {"a": b"1" * 10, "b": b"2" * 10}
    assert select(files, 20, count).files == files
    assert select(files, 20, count).left_out == ()


def test_configurations_come_first_then_what_others_refer_to() -> None:
    files = {
        "tests/test_pages.py": b"import pages\n",
        "pages.py": b"",
        "other.py": b"import pages\n",
        "deep/package.json": b"{}",
        "README.md": b"hello",
    }
    order = order_by_importance(files)
    assert order[:3] == ["deep/package.json", "README.md", "pages.py"]
    assert order[-1] == "tests/test_pages.py"


def test_files_without_room_are_named_and_smaller_ones_may_follow() -> None:
    files = {"README": b"x" * 60, "big.py": b"y" * 50, "small.py": b"z" * 30}
    chosen = select(files, 100, count)
    assert set(chosen.files) == {"README", "small.py"}
    assert [(each.path, each.reason) for each in chosen.left_out] == [("big.py", "no room in the context")]


def test_a_question_decides_about_a_small_part_only() -> None:
    files = {f"f{number}.py": b"x" * 10 for number in range(30)}
    plain, asked = (select(files, 100, count, question=question).files for question in (b"", b"what is in f29.py?"))
    assert "f29.py" in asked
    assert "f29.py" not in plain
    assert len(set(plain) - set(asked)) == 1


def test_there_is_room_for_a_named_file_of_two_fifths() -> None:
    files = {f"f{number}.py": b"x" * 10 for number in range(30)} | {"deep/down/large.py": b"y" * 40}
    assert "deep/down/large.py" in select(files, 100, count, question=b"what is in large.py?").files
    assert "deep/down/large.py" not in select(files, 100, count).files


def test_few_files_are_counted_when_most_cannot_fit() -> None:
    counted = []

    def counting(path: str, content: bytes) -> int:
        counted.append(path)
        return len(content)

    select({f"f{number:03}.py": b"x" * 100 for number in range(500)}, 1000, counting)
    assert len(counted) < 20
