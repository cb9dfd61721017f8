"""Each side starts in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.sides import Installed, our_side, peer_side

INSTALLED = Installed(
    Path("python-a"), Path("bindings"), Path("build"), Path("python-b"), "float32", Path("config.json")
)


@pytest.fixture(autouse=True)
def _threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")


def test_ours_sleeps_while_it_waits_and_has_room_for_a_fork() -> None:
    side = our_side(Path("a.gguf"), 1000)
    assert side.environment["OMP_WAIT_POLICY"] == "passive"
    assert int(side.command[-1]) > 1000


@pytest.mark.parametrize("name", ["llama.cpp", "transformers"])
def test_nothing_about_threads_is_set_for_a_peer(name: str) -> None:
    side = peer_side(name, Path("a.gguf"), INSTALLED)
    assert not [key for key in side.environment if key.startswith("OMP_")]
    assert side.environment.get("PYTHONPATH") != "elsewhere"


def test_llama_cpp_finds_its_bindings_and_libraries() -> None:
    side = peer_side("llama.cpp", Path("a.gguf"), INSTALLED)
    assert side.command[0] == "python-a"
    assert Path(side.environment["LLAMA_CPP_LIB_PATH"]) == Path("build").resolve()
    assert Path(side.environment["PYTHONPATH"]) == Path("bindings").resolve()


def test_transformers_is_told_file_type_and_config_and_asks_no_network() -> None:
    side = peer_side("transformers", Path("a.gguf"), INSTALLED)
    assert side.command[-2:] == ("float32", str(Path("config.json").resolve()))
    assert side.environment["HF_HUB_OFFLINE"] == "1"
