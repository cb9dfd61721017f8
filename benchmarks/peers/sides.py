"""How each side is started: its interpreter, its module, and an environment of its own."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.process import Side

REPOSITORY = Path(__file__).resolve().parents[2]

# Our sessions fork at the page; a little room beyond the tokens keeps the copy of the last page inside the plan.
_ROOM_TOKENS = 1024
_THREAD_SETTINGS = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")


@dataclass(frozen=True)
class Installed:
    """Where the peers are."""

    llama_python: Path
    llama_bindings: Path | None
    llama_build: Path | None
    transformers_python: Path
    transformers_dtype: str
    transformers_config: Path | None


def our_side(model: Path, num_tokens: int) -> Side:
    """longlens as its command line runs it: threads that wait sleep."""
    command = (sys.executable, "-m", "benchmarks.peers.peer_longlens", str(model.resolve()))
    return Side("longlens", (*command, str(num_tokens + _ROOM_TOKENS)), _clean() | {"OMP_WAIT_POLICY": "passive"})


def peer_side(name: str, model: Path, installed: Installed) -> Side:
    """A peer in its own environment; nothing about threads is set for it but their number."""
    environment = _clean()
    if name == "transformers":
        command = [str(installed.transformers_python), "-m", "benchmarks.peers.peer_transformers"]
        command += [str(model.resolve()), installed.transformers_dtype]
        if installed.transformers_config is not None:
            command.append(str(installed.transformers_config.resolve()))
        return Side(name, tuple(command), environment | {"HF_HUB_OFFLINE": "1"})
    if installed.llama_bindings is not None:
        environment["PYTHONPATH"] = str(installed.llama_bindings.resolve())
    if installed.llama_build is not None:
        environment["LLAMA_CPP_LIB_PATH"] = str(installed.llama_build.resolve())
    command = [str(installed.llama_python), "-m", "benchmarks.peers.peer_llama_cpp", str(model.resolve())]
    return Side(name, tuple(command), environment)


def _clean() -> dict[str, str]:
    """This process's environment without what changes how threads behave."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(_THREAD_SETTINGS) and key != "PYTHONPATH"
    }
