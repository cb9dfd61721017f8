"""The contracts of import-linter refuse what they are there to refuse, on a small house with one fault at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree_rules import REPOSITORY

FLOORS = REPOSITORY / "pyproject.toml"
TORCH_FREE = REPOSITORY / "tests/house/torch_free.toml"

FAULTS = {
    "a lower floor imports an upper one": (FLOORS, "cache/pages.py", "from longlens.engine import sampling"),
    "a late import counts": (FLOORS, "cache/pages.py", "def f():\n    from longlens.engine import sampling"),
    "an import for types counts": (
        FLOORS,
        "cache/pages.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from longlens.engine import sampling",
    ),
    "strangers do not meet": (FLOORS, "text/reply.py", "from longlens.engine import sampling"),
    "a floor that comes later has its place": (FLOORS, "repo/pack.py", "import longlens.ask"),
    "a new floor must be placed": (FLOORS, "attic/box.py", ""),
    "a circle inside a floor": (FLOORS, "engine/sampling.py", "import longlens.engine.worker"),
    "transformers in the package": (FLOORS, "text/reply.py", "import transformers"),
    "a terminal library outside the command line": (FLOORS, "engine/worker.py", "from rich import print"),
    "an implementation of kernels chosen by the model": (FLOORS, "model/mla.py", "import longlens.kernels.reference"),
    "torch in the plan": (TORCH_FREE, "plan/cost.py", "import torch"),
    "torch in the plan, late": (TORCH_FREE, "plan/cost.py", "def f():\n    import torch"),
    "torch in the plan, by way of another module": (TORCH_FREE, "plan/cost.py", "import longlens.kernels.interface"),
}

SOUND = {
    "plan/cost.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
    "cli/run.py": "import rich\nfrom longlens.chat import facade",
    "kernels/choose.py": "import longlens.kernels.reference",
    "kernels/interface.py": "import torch",
    "engine/worker.py": "import longlens.engine.sampling, longlens.cache.pages",
}


def build_house(folder: Path, files: dict[str, str]) -> None:
    """Lay out an empty module for every module of the real package, the floors to come, and what a test needs."""
    real = (REPOSITORY / "src/longlens").rglob("*.py")
    names = {str(path.relative_to(REPOSITORY / "src/longlens")) for path in real}
    names |= {f"{floor}/__init__.py" for floor in ("server", "doctor", "bench", "tune", "evaluate", "convert")}
    names |= {"ask/__init__.py", "repo/__init__.py", "cache/pages.py", "engine/worker.py", "engine/sampling.py"}
    names |= {"chat/facade.py", "kernels/reference.py", *files}
    for name in sorted(names):
        path = folder / "longlens" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(files.get(name, ""))


# An editable install finds longlens before any path is looked at; the small house is to be found instead.
LINT = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
from importlinter.cli import lint_imports_command
lint_imports_command()
"""


def lint(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--config", str(config), "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("config", [FLOORS, TORCH_FREE], ids=["floors", "torch_free"])
def test_a_sound_house_keeps_all_contracts(tmp_path: Path, config: Path) -> None:
    build_house(tmp_path, SOUND)
    outcome = lint(tmp_path, config)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_breaks_a_contract(tmp_path: Path, fault: str) -> None:
    config, name, source = FAULTS[fault]
    build_house(tmp_path, SOUND | {name: source})
    outcome = lint(tmp_path, config)
    assert outcome.returncode == 1
    assert "BROKEN" in outcome.stdout or "attic" in outcome.stdout, outcome.stdout + outcome.stderr
