"""Records of tensors."""

from __future__ import annotations

import pytest

from longlens.formats.element_types import ElementType
from longlens.formats.tensors import TensorInfo


@pytest.mark.parametrize(("shape", "count"), [((), 1), ((7,), 7), ((2, 3, 4), 24), ((5, 0), 0)])
def test_elements_are_the_product_of_the_sizes(shape: tuple[int, ...], count: int) -> None:
    assert TensorInfo("x", shape, ElementType("F32", 1, 4), 0, 0, 4 * count).num_elements == count
