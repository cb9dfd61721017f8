"""Installing longlens where its C++ kernels cannot be built, as pip does it, without the network."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def build_wheel(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel of this repository into a folder, with a compiler that compiles nothing."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "-C", f"build-dir={folder / 'build'}", "-w", str(folder / "wheels"), "."]
    kept = {name: value for name, value in os.environ.items() if name != "LONGLENS_NATIVE"}
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**kept, "CXX": "/bin/false", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_the_package_is_whole_but_for_its_library(tmp_path: Path) -> None:
    run = build_wheel(tmp_path)
    assert run.returncode == 0, run.stderr
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "longlens/kernels/native.py" in names
    assert "longlens/pocket/pocket.gguf" in names
    assert not [name for name in names if name.endswith(".so")]


def test_a_library_that_is_insisted_on_and_cannot_be_built_is_an_error(tmp_path: Path) -> None:
    run = build_wheel(tmp_path, LONGLENS_NATIVE="ON")
    assert run.returncode != 0
    assert "CMake configuration failed" in run.stdout + run.stderr
