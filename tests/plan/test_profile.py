from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from longlens.errors import FormatError, LonglensError, UsageError
from longlens.plan.hardware import HARDWARE, find_hardware
from longlens.plan.hardware_records import Hardware
from longlens.plan.profile import (
    PROFILE_VERSION,
    profile_of_hardware,
    profile_path,
    read_profile,
    write_profile,
)
from longlens.plan.rates import LimitRates
from tests.plan.rates_by_hand import plain_profile


def test_a_profile_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    path = profile_path(tmp_path / "cache", "cpu")
    for profile in (plain_profile(), profile_of_hardware(find_hardware("h100"))):
        write_profile(path, profile)
        assert read_profile(path) == profile
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_each_kind_of_device_has_its_own_profile() -> None:
    assert profile_path(Path("x"), "cuda:1") == profile_path(Path("x"), "cuda") != profile_path(Path("x"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not JSON"),
        ("[1]", "not a machine profile"),
        ('{"kind": "something"}', "not a machine profile"),
        ("\x00\xff", "not JSON"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_with_a_mend(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=fault) as caught:
        read_profile(path)
    assert "measure the machine again" in caught.value.mend


def test_a_missing_profile_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="measure the machine"):
        read_profile(tmp_path / "none.json")


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(plain_profile().as_json() | {"version": PROFILE_VERSION + 1}))
    with pytest.raises(FormatError, match=f"version {PROFILE_VERSION + 1}"):
        read_profile(path)


@pytest.mark.parametrize("field", ["machine", "rates", "num_threads", "disk_read_bytes_per_s", "kernels"])
def test_a_profile_with_a_field_missing_or_garbled_is_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "profile.json"
    whole = json.loads(json.dumps(plain_profile().as_json()))
    for document in ({k: v for k, v in whole.items() if k != field}, whole | {field: [field]}):
        path.write_text(json.dumps(document))
        with pytest.raises(FormatError):
            read_profile(path)


def test_a_profile_with_a_rate_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    document = json.loads(json.dumps(plain_profile().as_json()))
    document["rates"]["call_s"] = 0
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match="call_s"):
        read_profile(path)


def test_a_folder_that_cannot_be_written_is_a_fault_with_a_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--cache-dir"):
        write_profile(tmp_path / "file" / "profile.json", plain_profile())


@pytest.mark.parametrize("name", HARDWARE)
def test_every_catalogue_entry_with_peaks_has_limits_that_say_that_nothing_was_measured(name: str) -> None:
    hardware = HARDWARE[name]
    if hardware.peaks is None:
        with pytest.raises(LonglensError, match="measure the machine"):
            profile_of_hardware(hardware)
        return
    profile = profile_of_hardware(hardware)
    assert profile.kernels == "limit"
    assert profile.source.startswith("published, not measured")
    assert isinstance(profile.rates, LimitRates)
    assert profile.rates.linear_flops < hardware.num_devices * max(
        hardware.peaks.bf16_flops, hardware.peaks.fp8_flops or 0, hardware.peaks.int8_ops or 0
    )


def test_a_machine_without_peaks_must_be_measured() -> None:
    with pytest.raises(UsageError, match="measure the machine"):
        profile_of_hardware(Hardware("x", "X", (), 1, None, "nowhere"))
