from __future__ import annotations

import pytest
import torch

from longlens.errors import SelectionError
from longlens.model.index_share import IndexShare

ONE, OTHER = torch.tensor([[0, 1]], dtype=torch.int32), torch.tensor([[2, 3]], dtype=torch.int32)


def test_the_positions_of_the_last_full_layer_are_handed_on() -> None:
    share = IndexShare()
    share.put(3, [ONE, OTHER])
    taken = share.take(3)
    assert taken[0] is ONE
    assert taken[1] is OTHER
    assert share.take(3) == taken  # any number of shared layers may follow


def test_the_next_full_layer_replaces_them() -> None:
    share = IndexShare()
    share.put(1, [ONE])
    assert share.take(1)[0] is ONE
    share.put(3, [OTHER])
    for _ in range(3):  # the full layer itself and two shared ones
        assert share.take(3)[0] is OTHER


def test_positions_of_another_layer_are_an_error_and_never_used() -> None:
    share = IndexShare()
    share.put(1, [ONE])
    share.put(3, [OTHER])
    with pytest.raises(SelectionError, match="needs the positions of layer 1, but layer 3 chose last"):
        share.take(1)


def test_a_step_that_begins_at_a_shared_layer_is_an_error() -> None:
    with pytest.raises(SelectionError, match="needs the positions of layer 2, but no layer chose last"):
        IndexShare().take(2)
