from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import FIXTURES, fault_and_mend
from tests.hub.hub_process import HubProcess, hub_process

GGUF, FOLDER = "someone/small-GGUF", "someone/small"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with hub_process(tmp_path) as process:
        process.publish(GGUF, {"small-Q4_K_M.gguf": (FIXTURES / "tiny-glm-Q4_K_M.gguf").read_bytes()})
        files = {path.name: path.read_bytes() for path in (FIXTURES / "tiny-glm").iterdir() if path.is_file()}
        process.publish(FOLDER, files)
        yield process


@pytest.mark.parametrize("repository", [GGUF, f"{GGUF}:Q4_K_M", FOLDER])
def test_a_repository_is_planned_for_by_ranges_and_nothing_is_kept(hub: HubProcess, repository: str) -> None:
    result = hub.longlens("plan", repository, "--json")
    assert result.returncode == 0, result.stderr.decode()
    assert json.loads(result.stdout)["model"] == repository
    assert all("range" in request for request in hub.contents())
    assert not hub.cache.exists()


def test_a_preset_sends_nothing(hub: HubProcess) -> None:
    assert hub.longlens("plan", "zai-org/GLM-5.2", "--hardware", "h200-x8").returncode == 0
    assert hub.requests() == []


def test_what_the_hub_does_not_have_is_a_fault_with_a_mend(hub: HubProcess) -> None:
    result = hub.longlens("plan", "someone/nothing")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "someone/nothing" in fault
    assert mend


def test_a_size_that_the_hub_states_wrong_is_a_fault_with_a_mend(hub: HubProcess) -> None:
    hub.fail(GGUF, sizes={"small-Q4_K_M.gguf": 100})
    fault, mend = fault_and_mend(hub.longlens("plan", GGUF))
    assert "small-Q4_K_M.gguf" in fault
    assert mend


def test_a_name_that_is_known_to_be_a_mistake_sends_nothing(hub: HubProcess) -> None:
    fault, _ = fault_and_mend(hub.longlens("plan", "z-ai/GLM-5.2-64B-GGUF"))
    assert "does not exist" in fault
    assert hub.requests() == []
