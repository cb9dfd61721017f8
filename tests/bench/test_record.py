from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longlens import __version__
from longlens.bench.record import (
    check_output,
    code_identity,
    machine_identity,
    model_identity,
    read_record,
    write_record,
)
from longlens.bench.synthetic import MID
from longlens.errors import FormatError, UsageError
from longlens.machine import Gpu, Machine
from tests.bench.small_records import figure, record


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    made = record(figure("pp512"), figure("tg128 @ d64", (1.5, 2, 3, 4, 5)))
    write_record(tmp_path / "a.json", made)
    assert read_record(tmp_path / "a.json") == made
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("precious")
    for refuse in (lambda: check_output(path, 5), lambda: write_record(path, record())):
        with pytest.raises(UsageError, match="never overwritten"):
            refuse()
    assert path.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="never overwritten"):
        write_record(path, record())
    assert not (tmp_path / "elsewhere").exists()


def test_too_few_samples_are_refused_before_measuring(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs 5 samples, 4 were asked for"):
        check_output(tmp_path / "a.json", 4)
    check_output(tmp_path / "a.json", 5)


def test_a_folder_that_is_missing_is_refused_before_measuring(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        check_output(tmp_path / "no/a.json", 5)
    with pytest.raises(UsageError, match="cannot be written"):
        write_record(tmp_path / "no/a.json", record())


def test_a_full_disk_is_a_fault_and_leaves_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_record(tmp_path / "a.json", record())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"record": 99}', '{"record": 1}', "not json"])
def test_what_is_no_record_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(FormatError):
        read_record(path)


def test_a_record_whose_figures_are_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**record().as_json(), "figures": [1]}))
    with pytest.raises(FormatError, match="no figures"):
        read_record(path)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_record(tmp_path / "a.json")


def test_the_code_is_known_by_its_versions() -> None:
    code = code_identity()
    assert (code["longlens"], code["torch"]) == (__version__, torch.__version__)


def test_the_machine_is_plain_values_with_its_load() -> None:
    gpu = Gpu("u", "card", (9, 0), 5, 4)
    machine = Machine("one", 2, 4, None, ("avx2",), 10, 9, (gpu,))
    identity = machine_identity(machine)
    assert json.loads(json.dumps(identity))["gpus"][0]["compute_capability"] == [9, 0]
    assert len(identity["load_average"]) == 3


def test_a_model_is_told_apart_by_its_configuration() -> None:
    mid = model_identity("mid", MID.config, {"seed": 1})
    other = model_identity("mid", replace(MID.config, rms_norm_eps=1e-6), {"seed": 1})
    assert (mid["parameters"], mid["seed"]) == (886_037_168, 1)
    assert mid["config_digest"] != other["config_digest"]
