"""What is free of torch by contract is free of it when it runs."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from tests.house.tree_rules import REPOSITORY

CONTRACT = tomllib.loads((REPOSITORY / "tests/house/torch_free.toml").read_text())
ROOTS: list[str] = CONTRACT["tool"]["importlinter"]["contracts"][0]["source_modules"]

# Commands that answer without a model. As parts of cli they may see other floors, so no contract names them.
COMMANDS = ["longlens.__main__", "longlens.cli.inspect"]


def modules_below(root: str) -> list[str]:
    path = REPOSITORY / "src" / root.replace(".", "/")
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.rglob("*.py"))
    names = [".".join(file.relative_to(REPOSITORY / "src").with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def imports_torch(modules: list[str]) -> list[str]:
    """Import modules one by one in one fresh interpreter and return the first one after which torch is there."""
    program = (
        "import sys, importlib\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if {'torch', 'transformers'} & set(sys.modules): print(name); break\n"
    )
    command = [sys.executable, "-c", program, *modules]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("root", ["longlens", *COMMANDS, *ROOTS])
def test_modules_that_must_start_at_once_load_no_torch(root: str) -> None:
    modules = ["longlens"] if root == "longlens" else modules_below(root)
    assert modules
    assert imports_torch(modules) == []


def test_the_measurement_sees_torch() -> None:
    assert imports_torch(["longlens.errors", "longlens.kernels.interface"]) == ["longlens.kernels.interface"]
