from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.terminal import FIXTURES, TINY, fault_and_mend, longlens


def test_people_get_a_summary() -> None:
    result = longlens("inspect", TINY)
    text = result.stdout.decode()
    assert result.returncode == 0, result.stderr.decode()
    assert "architecture  glm-dsa" in text
    assert "3 full layers: 0, 1, 3" in text
    assert "MTP" in text


def test_json_lists_every_tensor_with_the_contracts_fields() -> None:
    found = json.loads(longlens("inspect", "--json", str(FIXTURES / "tiny-glm")).stdout)
    assert found["architecture"] == "glm_moe_dsa"
    assert found["config"]["hidden_size"]
    assert found["parameters"] == sum(product(tensor["shape"]) for tensor in found["tensors"])
    assert set(found["tensors"][0]) == {"name", "shape", "type", "bytes", "shard"}
    assert sum(found["quantisation"].values()) == found["parameters"]
    assert {tensor["shard"] for tensor in found["tensors"]} == {0, 1}


def product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def test_the_diagram_draws_every_layer(tmp_path: Path) -> None:
    drawing = tmp_path / "schedule.svg"
    assert longlens("inspect", TINY, "--diagram", str(drawing)).returncode == 0
    svg = drawing.read_text()
    assert svg.count(">full<") == 3
    assert svg.count("→ 1") == 1
    assert ">MTP<" in svg


def test_a_diagram_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    result = longlens("inspect", TINY, "--diagram", str(tmp_path / "no" / "schedule.svg"))
    assert result.returncode == 2
    assert b"cannot be written" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_architecture_that_does_not_run_is_listed_all_the_same(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "tiny-glm", tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "mamba"}
    (folder / "config.json").write_text(json.dumps(config))
    result = longlens("inspect", str(folder))
    assert result.returncode == 1
    assert b"tensors" in result.stdout
    assert b"'mamba'" in result.stderr


def test_unknown_keys_and_tensors_are_warnings_and_errors_if_strict(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "tiny-glm", tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text()) | {"hidden_gems": 3}
    (folder / "config.json").write_text(json.dumps(config))
    lenient, strict = longlens("inspect", str(folder)), longlens("inspect", "--strict", str(folder))
    assert b"warning: unknown key hidden_gems" in lenient.stderr
    assert (lenient.returncode, strict.returncode) == (0, 1)


@pytest.mark.parametrize("words", [[], [TINY, "-m", TINY]])
def test_one_model_is_inspected_at_a_time(words: list[str]) -> None:
    result = longlens("inspect", *words)
    fault_and_mend(result)
    assert result.returncode == 2
