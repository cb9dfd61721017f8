from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from longlens.cli.program import main
from longlens.plan.packed import has_library
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.profile import profile_path, write_profile
from longlens.plan.timing import NOT_MEASURED, NOT_PREDICTED
from tests.cli.terminal import FIXTURES, TINY, environment, fault_and_mend, longlens
from tests.plan.rates_by_hand import plain_profile

Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Said:
    def run(*words: str) -> str:
        assert main(["plan", "--cache-dir", str(tmp_path), *words]) == 0
        return capsys.readouterr().out

    return run


def test_pocket_is_planned_for_when_nothing_is_named(said: Said) -> None:
    out = said()
    assert out.startswith("pocket on ")
    assert "runs      yes" in out
    # the shipped file is quantised: where the C++ kernels are built, a probe of plain torch would not help
    assert (NOT_PREDICTED if has_library() else NOT_MEASURED) in out


def test_sizes_are_written_as_they_are_typed(said: Said) -> None:
    assert "93GiB" in said("glm-5.2", "--hardware", "h200-x8", "-c", "1048576", "--cache-type-k", "bf16")


def test_the_json_holds_the_contracts_fields(said: Said) -> None:
    plan = json.loads(said("glm-5.2", "--hardware", "h200-x8", "-ctk", "fp8", "--json"))
    assert plan["kv_bytes_per_token"] == 53_940
    assert sum(plan["tiers"].values()) == sum(part["num_bytes"] for part in plan["components"])
    assert set(plan["ttft_s"]) == {"cold", "memory", "disk"}
    assert plan["decode_tokens_per_s"] > 0
    assert plan["not_built"]


def test_a_file_is_planned_for_by_its_headers(said: Said) -> None:
    assert json.loads(said(TINY, "--json"))["model"] == Path(TINY).name


def test_a_plan_that_cannot_run_yet_is_printed_as_such(said: Said) -> None:
    out = said("glm-5.2-64b", "--hardware", "rtx-4090")
    assert "moved     experts of layers" in out
    assert "not yet   weights that stay packed" in out
    assert "load refuses it" in out


def test_a_measured_machine_has_times(said: Said, tmp_path: Path) -> None:
    write_profile(profile_path(tmp_path, "cpu"), plain_profile(date="2026-11-24"))
    assert "tok/s" in said("smollm2-135m", "--device", "cpu")


def test_a_file_that_stays_packed_is_planned_as_such_and_gets_no_times_of_plain_torch(
    said: Said, tmp_path: Path
) -> None:
    write_profile(profile_path(tmp_path, "cpu"), plain_profile(date="2026-11-24"))
    out = said("pocket", "--device", "cpu")
    assert "packed, as stored; the rest as f32" in out
    assert "C++ kernels have not been measured" in out
    assert "tok/s" not in out
    assert "runs      yes" in out


def test_a_damaged_profile_is_told_and_does_not_stop_the_plan(said: Said, tmp_path: Path) -> None:
    profile_path(tmp_path, "cpu").write_text("not a profile")
    assert "not JSON" in said("pocket", "--device", "cpu")


def test_a_table_is_printed_in_place_of_a_plan(said: Said) -> None:
    assert "95,232" in said("--table", "kv")
    assert said("--table", "kv", "--csv").count("\n") > 5


def test_the_score_of_no_run_is_none(said: Said) -> None:
    assert said("--score").count("no run") == 3


def test_advice_is_printed_in_place_of_a_plan(said: Said) -> None:
    assert "recommended" in said("--advise", "--private", "--hardware", "h200-x8")


def test_the_options_of_the_advice_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--help"]) == 0
    assert "--private" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["pocket", "-m", "pocket"], "one model"),
        (["--csv"], "--table"),
        (["--hardware", "rtx-4090", "--probe"], "--hardware"),
        (["--hardware", "rtx-9999"], "rtx-"),
        (["pocket", "--quant", "q3_k_s"], "--quant"),
        (["--table", "prices"], "prices"),
    ],
)
def test_wrong_usage_has_fault_and_mend(words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    said = capsys.readouterr().err
    assert part in said
    assert "hint: " in said


def test_what_fits_nowhere_is_a_fault_with_the_nearest_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "glm-5.2", "--hardware", "laptop-16"]) == 1
    assert "hint: it fits --hardware" in capsys.readouterr().err


def test_a_header_that_lies_about_sizes_is_a_fault_with_a_mend(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    content = Path(TINY).read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    result = longlens("plan", str(cut))
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "cut.gguf" in fault
    assert mend


def test_a_driver_that_fails_is_told_and_the_processor_is_planned_for(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    env = environment() | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = [sys.executable, "-m", "longlens", "plan", "pocket", "--cache-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, check=False, env=env)
    assert result.returncode == 0
    assert b"nvidia-smi could not be read" in result.stderr
    assert b"RAM" in result.stdout


def test_a_disk_that_cannot_be_probed_is_left_out_and_told(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.disk_usage", refuse)
    assert "could not be probed (Permission denied)" in said("pocket")


def test_planning_imports_neither_torch_nor_the_hubs_client() -> None:
    probe = (
        "import sys; from longlens.cli import main\n"
        "assert main(['plan', 'pocket']) == main(['plan', 'glm-5.2', '--hardware', 'h200-x8']) == 0\n"
        "sys.exit(bool({'torch', 'httpx', 'httpx2', 'rich'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False, env=environment())
    assert result.returncode == 0, result.stderr.decode()


def test_planning_any_preset_takes_a_blink() -> None:
    """The aim is 0.3 s of a quiet machine; processor time says it on a busy one, too."""
    seconds = {name: min(processor_seconds(name) for _ in range(2)) for name in MODEL_PRESETS}
    assert max(seconds.values()) < 0.6, seconds


def processor_seconds(name: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "longlens", "plan", name, "--hardware", "rtx-4090-x8"]
    subprocess.run(command, capture_output=True, check=False, env=environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_the_fixtures_of_both_layouts_are_planned_for(said: Said) -> None:
    assert "runs      yes" in said(str(FIXTURES / "tiny-glm"))
    assert "runs      yes" in said(str(FIXTURES / "tiny-llama-Q8_0.gguf"))
