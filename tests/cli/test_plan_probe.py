from __future__ import annotations

from pathlib import Path

import pytest

from longlens.cli import plan_probe
from longlens.plan.profile import profile_path, read_profile
from tests.plan.rates_by_hand import plain_profile


def test_the_profile_is_kept_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {}

    def measure(device: str, *, folder: Path) -> object:
        asked.update(device=device, folder=folder)
        return plain_profile(stolen_share=0.25)

    monkeypatch.setattr(plan_probe, "measure_machine", measure)
    folder = tmp_path / "new"
    profile = plan_probe.measure_and_keep("cpu", folder)
    assert asked == {"device": "cpu", "folder": folder}
    assert read_profile(profile_path(folder, "cpu")) == profile
    assert "25% of the processor was taken away" in capsys.readouterr().err
