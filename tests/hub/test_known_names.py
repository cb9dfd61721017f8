from __future__ import annotations

from dataclasses import replace

import pytest

from longlens.errors import ModelNotFoundError
from longlens.hub.known_names import GLM_5_2, describe_room, refuse_known_mistake
from longlens.machine import Gpu, Machine
from longlens.units import GIB

SMALL = Machine("cpu", 2, 2, None, (), 16 * GIB, 8 * GIB)
H100 = Gpu("0", "H100", (9, 0), 80 * GIB, 79 * GIB)


@pytest.mark.parametrize("name", ["z-ai/GLM-5.2-64B-GGUF", "Z-AI/glm-5.2-64b-gguf"])
def test_the_articles_name_is_refused_with_what_is_meant(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        refuse_known_mistake(name, lambda: SMALL)
    assert caught.value.fault.startswith(f"{name} does not exist: the model is zai-org/GLM-5.2, 753,329,940,480")
    assert "755.6 GB in 141 shards" in caught.value.fault


def test_other_names_pass_and_the_machine_is_not_asked() -> None:
    asked: list[Machine] = []

    def detect() -> Machine:
        asked.append(SMALL)
        return SMALL

    refuse_known_mistake("zai-org/GLM-5.2", detect)
    assert asked == []


def test_memory_decides_without_a_gpu() -> None:
    text = describe_room(GLM_5_2, SMALL)
    assert "16.0 GiB of memory (8.0 GiB free) and no GPU: too little for it" in text
    assert "about 4.3 billion parameters" in text


def test_the_device_with_the_most_room_decides() -> None:
    assert "about 42.4 billion parameters" in describe_room(GLM_5_2, replace(SMALL, gpus=(H100,)))
    assert "which holds it" in describe_room(GLM_5_2, replace(SMALL, memory_available_bytes=2000 * GIB))
