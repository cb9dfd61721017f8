from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from longlens.bench.record import Record, write_record
from longlens.cli.bench_records import EXIT_REFUSED, EXIT_SLOWER
from longlens.errors import LonglensError, UsageError
from tests.bench.small_records import figure, record
from tests.cli.bench_words import bench
from tests.cli.stub_matplotlib import install_stub


def files(folder: Path, *records: Record) -> list[str]:
    paths = [folder / f"{name}.json" for name in "ab"[: len(records)]]
    for path, each in zip(paths, records, strict=True):
        write_record(path, each)
    return list(map(str, paths))


SLOW = figure(values=(50, 51, 49, 50, 52))


@pytest.mark.parametrize(
    ("second", "code", "words"),
    [
        (record(), 0, "no change"),
        (record(figure(values=(150, 151, 149, 150, 152))), 0, "faster"),
        (record(SLOW), EXIT_SLOWER, "slower"),
        (record(replace(SLOW, digest="f" * 16)), EXIT_REFUSED, "refused: the two computed different tokens"),
    ],
)
def test_the_exit_code_says_whether_something_is_slower(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: Record, code: int, words: str
) -> None:
    assert bench("compare", *files(tmp_path, record(), second)) == code
    shown = capsys.readouterr().out
    assert shown.startswith("nothing tells A and B apart\n")
    assert shown.rstrip().endswith(words)


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench("compare", *files(tmp_path, record(), record(SLOW, settings={"seed": 1})), "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["difference"] == "seed (0 and 1)"
    assert (answer["changes"][0]["verdict"], answer["changes"][0]["ratio"]) == ("slower", 0.5)


def test_records_that_differ_in_two_things_are_refused(tmp_path: Path) -> None:
    other = record(model={"name": "other"}, settings={"seed": 1})
    with pytest.raises(LonglensError, match="more than one thing"):
        bench("compare", *files(tmp_path, record(), other))


def test_what_weakens_a_comparison_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dirty = record(code={"longlens": "0.1.0", "commit": "abc-dirty", "torch": "2.13.0"})
    bench("compare", *files(tmp_path, dirty, dirty))
    assert "warning: A does not say which code it measured" in capsys.readouterr().err


def test_records_become_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_stub(tmp_path / "stub", monkeypatch)
    picture = tmp_path / "out.svg"
    assert bench("plot", *files(tmp_path, record(), record(SLOW)), str(picture)) == 0
    drawn = json.loads(picture.read_text())
    assert [call["label"] for call in drawn if call["name"] == "errorbar"] == ["pp512 (a)", "pp512 (b)"]


def test_without_matplotlib_the_mend_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longlens.cli.bench_records.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="matplotlib, which is not installed") as caught:
        bench("plot", *files(tmp_path, record()), str(tmp_path / "out.png"))
    assert caught.value.mend == "pip install 'longlens[plot]'"


def test_a_drawing_that_fails_is_a_fault_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_stub(tmp_path / "stub", monkeypatch)
    (tmp_path / "out.png").mkdir()
    with pytest.raises(UsageError, match=r"could not draw .*IsADirectoryError"):
        bench("plot", *files(tmp_path, record()), str(tmp_path / "out.png"))


@pytest.mark.parametrize("words", [(), ("a.json",), ("a.json", "out.pdf"), ("a.json", "no/such/out.png")])
def test_plot_without_records_or_a_picture_is_wrong_usage(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_stub(tmp_path, monkeypatch)
    with pytest.raises(UsageError):
        bench("plot", *words)


def test_two_records_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_stub(tmp_path / "stub", monkeypatch)
    (path,) = files(tmp_path, record())
    with pytest.raises(UsageError, match="the same name"):
        bench("plot", path, path, str(tmp_path / "out.png"))
