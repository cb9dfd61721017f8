import pytest
import torch

from longlens.cache.layer_state import allocate_layer_state
from longlens.errors import CapacityError, ShapeError
from longlens.model.state import CacheTensor

CPU = torch.device("cpu")
LATENT = CacheTensor("latent", layer=3, width=2, element="f32", group=0)


def test_rows_land_in_the_slots_they_are_sent_to():
    state = allocate_layer_state(LATENT, 6, CPU)
    state.pool_PX.zero_()

    state.write(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5, 0]))

    assert state.pool_PX.tolist() == [[3, 4], [0, 0], [0, 0], [0, 0], [0, 0], [1, 2]]


def test_reading_gives_the_pool_itself_and_the_slots():
    state = allocate_layer_state(LATENT, 6, CPU)
    slots_S = torch.tensor([4, 1])

    rows = state.read(slots_S)

    assert rows.pool_PX.data_ptr() == state.pool_PX.data_ptr()
    assert rows.slots_S is slots_S


@pytest.mark.parametrize(
    ("element", "stored"), [("f32", 1.00390625), ("f16", 1.00390625), ("bf16", 1.0)], ids=["f32", "f16", "bf16"]
)
def test_values_are_rounded_to_the_element_type(element, stored):
    state = allocate_layer_state(CacheTensor("index_key", 0, 1, element, 0), 1, CPU)

    state.write(torch.tensor([[1.00390625]]), torch.tensor([0]))

    assert float(state.pool_PX[0, 0]) == stored


@pytest.mark.parametrize("shape", [(2, 3), (1, 2), (2, 1)])
def test_rows_of_another_shape_are_refused_by_name(shape):
    state = allocate_layer_state(LATENT, 6, CPU)

    with pytest.raises(ShapeError, match=r"latent rows of layer 3 have shape .*, not \(2, 2\)"):
        state.write(torch.zeros(shape), torch.tensor([0, 1]))


def test_copying_touches_only_the_rows_that_are_named():
    state = allocate_layer_state(LATENT, 6, CPU)
    state.pool_PX.copy_(torch.arange(12.0).view(6, 2))

    state.copy(source_slot=0, target_slot=3, num_slots=2)

    assert state.pool_PX[:, 0].tolist() == [0, 2, 4, 0, 2, 10]


def test_bytes_are_those_that_torch_allocated():
    state = allocate_layer_state(CacheTensor("latent", 0, 5, "bf16", 0), 7, CPU)

    assert state.allocated_bytes == state.pool_PX.untyped_storage().nbytes() == 7 * 5 * 2


def test_a_device_without_room_is_a_capacity_error_with_its_size():
    with pytest.raises(CapacityError, match=r"no room on cpu for 8\.0 TiB of latent rows of layer 3") as caught:
        allocate_layer_state(LATENT, 2**40, CPU)

    assert "--context" in caught.value.mend


def test_a_device_that_does_not_exist_is_not_a_lack_of_room():
    with pytest.raises(RuntimeError) as caught:
        allocate_layer_state(LATENT, 1, torch.device("fpga"))

    assert not isinstance(caught.value, CapacityError)
