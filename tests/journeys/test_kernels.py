"""Which kernels compute, as whoever runs a quantised model sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import longlens
from longlens.errors import UsageError
from longlens.kernels import choose
from tests.cli.terminal import FIXTURES, environment, fault_and_mend
from tests.cli.terminal import longlens as command

LLAMA = str(FIXTURES / "tiny-llama-Q8_0.gguf")
GLM = str(FIXTURES / "tiny-glm-Q8_0-00001-of-00002.gguf")
WORDS = ("-p", "def main", "-n", "4", "--temp", "0", "--device", "cpu", "-c", "128")

needs_library = pytest.mark.skipif(not choose.HAS_NATIVE, reason="the C++ kernels are not built")


def kernels_line(log: bytes) -> str:
    (line,) = [line for line in log.decode().splitlines() if line.startswith("kernels: ")]
    return line


@needs_library
@pytest.mark.parametrize("model", [LLAMA, GLM], ids=["llama", "glm"])
@pytest.mark.parametrize("wish", [(), ("--kernels", "auto"), ("--kernels", "native")], ids=["none", "auto", "native"])
def test_the_start_log_names_the_instruction_set_of_the_library(model: str, wish: tuple[str, ...]) -> None:
    from longlens.kernels._native import unit_names

    result = command("run", "-m", model, *WORDS, *wish)
    assert result.returncode == 0, result.stderr.decode()
    assert kernels_line(result.stderr).startswith(f"kernels: C++ with {unit_names()[0]} on the CPU: asked for;")
    assert "Q8_0" in kernels_line(result.stderr)
    assert result.stdout


@pytest.mark.parametrize("model", [LLAMA, GLM], ids=["llama", "glm"])
def test_plain_kernels_run_the_same_file_expanded(model: str) -> None:
    result = command("run", "-m", model, *WORDS, "--kernels", "plain")
    assert result.returncode == 0, result.stderr.decode()
    assert kernels_line(result.stderr).startswith(
        "kernels: plain torch on the CPU: asked for, and plain kernels as well"
    )
    assert kernels_line(result.stderr).endswith("kernels of their own: none")
    assert result.stdout


def test_without_the_library_a_line_says_so_and_the_model_runs() -> None:
    # None in the table of modules is an import that fails, as if the library had not been built
    program = "import sys; sys.modules['longlens.kernels._native'] = None; from longlens.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program, "run", "-m", LLAMA, *WORDS],
        capture_output=True,
        env=environment(),
        check=False,
        cwd=FIXTURES,
    )
    assert result.returncode == 0, result.stderr.decode()
    assert "plain torch on the CPU: asked for; the C++ kernels are not built here" in kernels_line(result.stderr)
    assert result.stdout


def test_kernels_that_do_not_exist_are_refused_by_name() -> None:
    result = command("run", "-m", LLAMA, *WORDS, "--kernels", "fast")
    assert result.returncode == 2
    fault, _ = fault_and_mend(result)
    assert "'fast'" in fault
    with pytest.raises(UsageError, match="'fast'"):
        longlens.load(LLAMA, device="cpu", kernels="fast")  # type: ignore[arg-type]


@needs_library
def test_what_is_loaded_computes_with_the_kernels_that_were_asked_for() -> None:
    for wish, name in (("auto", "C++ with"), ("native", "C++ with"), ("plain", "plain torch")):
        with longlens.load(LLAMA, device="cpu", context=64, kernels=wish) as model:  # type: ignore[arg-type]
            assert model.opened.choice.kernels.name.startswith(name)
