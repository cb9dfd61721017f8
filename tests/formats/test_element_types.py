"""Element types against the tables of gguf-py and the safetensors package."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from safetensors.numpy import save

from longlens.errors import UnsupportedModelError
from longlens.formats.element_types import GGML_TYPES, SAFETENSORS_TYPES, ggml_type, safetensors_type
from longlens.formats.safetensors import read_safetensors
from tests.formats.memory_source import MemorySource


@pytest.mark.parametrize("kind", sorted(GGML_QUANT_SIZES))
def test_a_ggml_type_has_the_name_and_block_that_gguf_py_gives_it(kind: GGMLQuantizationType) -> None:
    ours = ggml_type(int(kind), "x")
    # gguf-py counts block_q8_1 as 40 bytes; ggml-common.h asserts 2 * sizeof(ggml_half) + 32 = 36
    expected = (32, 36) if kind.name == "Q8_1" else GGML_QUANT_SIZES[kind]
    assert (ours.name, ours.block_elements, ours.block_bytes) == (kind.name, *expected)


def test_the_table_holds_nothing_beyond_gguf_py_but_q2_0() -> None:
    known = {int(kind) for kind in GGML_QUANT_SIZES}
    assert {kind.name for type_id, kind in GGML_TYPES.items() if type_id not in known} <= {"Q2_0"}


def test_names_are_unique() -> None:
    assert len({kind.name for kind in GGML_TYPES.values()}) == len(GGML_TYPES)


def test_an_unknown_ggml_type_names_itself_and_the_tensor() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        ggml_type(99, "blk.0.ffn_up.weight")
    assert "99" in caught.value.fault
    assert "blk.0.ffn_up.weight" in caught.value.fault
    assert "Q4_K" in caught.value.mend


def test_a_type_that_ggml_removed_is_refused_by_its_old_name() -> None:
    with pytest.raises(UnsupportedModelError, match=r"Q4_0_4_4.*removed"):
        ggml_type(31, "x")


def test_an_unknown_safetensors_dtype_names_itself_and_the_tensor() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        safetensors_type("F6_E3M2", "model.norm.weight")
    assert "F6_E3M2" in caught.value.fault
    assert "model.norm.weight" in caught.value.fault


PLAIN = {"bool": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "u4": "U32", "i4": "I32", "u8": "U64"}
PLAIN |= {"i8": "I64", "f2": "F16", "f4": "F32", "f8": "F64"}


@pytest.mark.parametrize(("dtype", "name"), PLAIN.items())
def test_a_plain_type_is_what_the_safetensors_package_writes_for_it(dtype: str, name: str) -> None:
    array = np.zeros((3, 2), dtype)
    (tensor,) = read_safetensors(MemorySource(save({"x": array})))
    assert tensor.element_type == SAFETENSORS_TYPES[name]
    assert tensor.num_bytes == array.nbytes


def test_bytes_count_whole_blocks() -> None:
    assert GGML_TYPES[12].bytes_for(512) == 288
