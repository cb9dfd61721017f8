from __future__ import annotations

import csv
import io
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from longlens.cli import plan_tables
from longlens.cli.plan_tables import print_table
from longlens.errors import UsageError
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.table import Unit, format_cell
from longlens.plan.tables import TABLES, make_table
from tests.cli.stub_matplotlib import install_stub


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_is_the_same_as_text_json_and_csv(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(name)
    text = printed(capsys)
    print_table(name, as_json=True)
    document = json.loads(printed(capsys))
    print_table(name, as_csv=True)
    lines = list(csv.reader(io.StringIO(printed(capsys))))
    units: list[Unit] = [column["unit"] for column in document["columns"]]
    body = text.splitlines()[4:]
    assert len(document["rows"]) == len(lines) - 1
    for row, line, shown in zip(document["rows"], lines[1:], body, strict=False):
        for value, cell, unit in zip(row.values(), line, units, strict=True):
            assert cell == ("" if value is None else str(value))
            assert format_cell(value, unit) in shown


def test_a_preset_and_its_name_give_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("kv", model="zai-org/GLM-5.1")
    by_name = printed(capsys)
    print_table("kv", model=MODEL_PRESETS["glm-5.1"])
    assert printed(capsys) == by_name
    assert "109,824" in by_name


def test_an_svg_is_well_formed_and_the_table_is_printed_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table("flops", plot=tmp_path / "a.svg")
    captured = capsys.readouterr()
    assert captured.err == f"wrote {tmp_path / 'a.svg'}\n"
    assert captured.out == make_table("flops").as_text()
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


def test_without_matplotlib_a_png_is_refused_and_the_extra_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan_tables, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="matplotlib") as caught:
        print_table("flops", plot=tmp_path / "a.png")
    assert "longlens[plot]" in caught.value.mend
    assert ".svg" in caught.value.mend
    assert capsys.readouterr().out == ""


def test_with_matplotlib_a_png_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_stub(tmp_path / "stub", monkeypatch)
    print_table("kv", plot=tmp_path / "a.png")
    assert f"wrote {tmp_path / 'a.png'}" in capsys.readouterr().err
    assert "GQA 8x128, bf16" in (tmp_path / "a.png").read_text()


def test_a_drawing_that_fails_tells_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_tables, "find_spec", lambda _: object())
    monkeypatch.setattr(plan_tables.sys, "executable", shutil.which("false"))
    with pytest.raises(UsageError, match=r"could not draw .*: no reason given"):
        print_table("flops", plot=tmp_path / "a.png")
    with pytest.raises(UsageError, match="its folder is missing"):
        print_table("flops", plot=tmp_path / "none" / "a.png")


@pytest.mark.parametrize(
    ("arguments", "fault", "mend"),
    [
        ({"name": "flop"}, "'flop' is not a table", "did you mean flops"),
        ({"name": "zzz"}, "'zzz' is not a table", "choose flops, kv"),
        ({"name": "kv", "model": "glm-5.9"}, "'glm-5.9' is not a model", "did you mean glm-5"),
        ({"name": "kv", "model": "qqqq"}, "'qqqq' is not a model", "choose glm-5,"),
        ({"name": "kv", "as_json": True, "as_csv": True}, "two forms", "choose one"),
        ({"name": "kv", "plot": Path("a.jpg")}, "neither .svg nor .png", ".svg or .png"),
        ({"name": "article", "plot": Path("a.svg")}, "has no curves", "--csv"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_nearest_that_can(
    arguments: dict[str, object], fault: str, mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=fault) as caught:
        print_table(**arguments)  # type: ignore[arg-type]
    assert mend in caught.value.mend
    assert capsys.readouterr().out == ""
