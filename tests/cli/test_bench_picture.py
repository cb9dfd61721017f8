from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from longlens.bench.plot import picture_of
from tests.bench.small_records import figure, record
from tests.cli.stub_matplotlib import install_stub


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install_stub(tmp_path / "stub", monkeypatch)

    def run(*figures):
        path = tmp_path / "out.png"
        content = json.dumps(picture_of({"a": record(*figures)}).as_json())
        command = [sys.executable, "-m", "longlens.cli.bench_picture", str(path)]
        subprocess.run(command, input=content, text=True, check=True)
        return json.loads(path.read_text())

    return run


def calls(drawn: list[dict], name: str) -> list[dict]:
    return [call for call in drawn if call["name"] == name]


def test_every_curve_is_drawn_with_its_spread(draw) -> None:
    (bars,) = calls(draw(figure("pp512"), figure("pp512 @ d64", (40, 50, 60, 50, 50))), "errorbar")
    assert bars["arguments"] == [[0, 64], [100, 50]]
    assert (bars["yerr"], bars["label"]) == ([[1, 10], [2, 10]], "pp512")


def test_each_unit_has_a_panel_below_the_last(draw) -> None:
    drawn = draw(figure("pp512"), figure("ttft8", unit="s"))
    assert [call["arguments"] for call in calls(drawn, "add_subplot")] == [[2, 1, 1], [2, 1, 2]]
    assert [call["arguments"] for call in calls(drawn, "set_ylabel")] == [["tok/s"], ["s"]]


def test_wide_depths_are_drawn_by_factors(draw) -> None:
    drawn = draw(figure("tg8 @ d1024"), figure("tg8 @ d8192"))
    assert calls(drawn, "set_xscale")[0]["arguments"] == ["log"]
    assert calls(drawn, "set_xticks")[0]["arguments"] == [[1024, 8192], ["1,024", "8,192"]]
