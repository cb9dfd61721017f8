from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from longlens.plan.chart import Chart, Curve
from tests.cli.stub_matplotlib import install_stub

CHART = Chart("title", "x", "y", tuple(Curve(f"c{n}", ((8192, 1.0 + n), (65_536, 9.0))) for n in range(11)))


def draw(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "longlens.cli.chart_png", str(path)]
    document = json.dumps(CHART.as_json())
    return subprocess.run(command, input=document, capture_output=True, text=True, timeout=120, check=False)


def test_every_curve_is_drawn_on_logarithmic_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_stub(tmp_path / "stub", monkeypatch)
    result = draw(tmp_path / "a.png")
    assert result.returncode == 0, result.stderr
    calls = json.loads((tmp_path / "a.png").read_text())
    plots = [call for call in calls if call["name"] == "plot"]
    assert [call["label"] for call in plots] == [f"c{n}" for n in range(11)]
    assert plots[3]["arguments"] == [[8192, 65_536], [4.0, 9.0], "-"]
    assert plots[10]["arguments"][2] == "--", "the eleventh curve has the first one's colour"
    scales = {call["name"]: call["arguments"] for call in calls if call["name"].endswith("scale")}
    assert scales == {"set_xscale": ["log"], "set_yscale": ["log"]}
    titles = {call["name"]: call["arguments"] for call in calls if call["name"] in ("set_title", "set_ylabel")}
    assert titles == {"set_title": ["title"], "set_ylabel": ["y"]}


def test_nothing_imports_the_drawing_module() -> None:
    program = "import sys, longlens.cli.plan_tables as t; print(any('matplotlib' in name for name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "False\n"
