from __future__ import annotations

import torch

from longlens.formats.checkpoint import open_checkpoint
from longlens.hub.reference import POCKET_FILE
from longlens.kernels.choose import HAS_NATIVE
from longlens.kernels.interface import PackedUpProjections
from longlens.kernels.native import PACKED_TYPES as TYPES_OF_THE_LIBRARY
from longlens.kernels.packed import PackedTensor
from longlens.kernels.packed_experts import PackedExperts
from longlens.model.needs import parameter_needs
from longlens.plan.budget import memory_weights
from longlens.plan.packed import (
    PACKED_TYPES,
    PackedProduct,
    has_library,
    native_weights,
    packed_in_catalog,
    packed_in_file_type,
)
from longlens.plan.presets import MODEL_PRESETS
from longlens.weights.catalog import build_catalog
from longlens.weights.resident import ResidentWeights

CONFIG = MODEL_PRESETS["pocket"].config


def test_the_types_are_those_of_the_library() -> None:
    assert PACKED_TYPES == TYPES_OF_THE_LIBRARY


def test_the_library_is_found_where_it_can_be_loaded() -> None:
    assert has_library() == HAS_NATIVE


def test_what_stays_packed_of_a_file_is_what_is_given_out_packed() -> None:
    for types in (PACKED_TYPES, frozenset({"Q4_K"}), frozenset()):
        with open_checkpoint(POCKET_FILE) as checkpoint:
            catalog = build_catalog(parameter_needs(CONFIG), checkpoint.tensors, checkpoint.layout)
            weights = ResidentWeights(checkpoint, catalog, torch.device("cpu"), torch.float32, types)
            given = _given_packed(weights, [need.name for need in parameter_needs(CONFIG) if need.is_run])
            planned = packed_in_catalog(catalog, types)
        assert {name: parameter.num_bytes for name, parameter in planned.items()} == given


def _given_packed(weights: ResidentWeights, names: list[str]) -> dict[str, int]:
    """Bytes of the parameters that come packed, asked for as model/build.py asks."""
    given: dict[str, int] = {}
    for name in names:
        if name.endswith("kv_b_proj.key"):
            up = weights.up_projections(name.removesuffix("key"))
            if isinstance(up, PackedUpProjections):
                given[name] = up.key_HCN.num_bytes
                given[name.removesuffix("key") + "value"] = up.value_HVC.num_bytes
        elif name.endswith(".mlp.experts.gate_proj.weight"):
            prefix = name.removesuffix("gate_proj.weight")
            bank = weights.experts(prefix)
            if isinstance(bank, PackedExperts):
                stacks = {"gate": bank.gate_EFD, "up": bank.up_EFD, "down": bank.down_EDF}
                given |= {f"{prefix}{part}_proj.weight": stack.num_bytes for part, stack in stacks.items()}
        elif ".mlp.experts." not in name and ".kv_b_proj." not in name:
            matrix = weights.matrix(name)
            if isinstance(matrix, PackedTensor):
                given[name] = matrix.num_bytes
    return given


def test_a_file_type_packs_what_the_file_of_that_type_packs() -> None:
    with open_checkpoint(POCKET_FILE) as checkpoint:
        catalog = build_catalog(parameter_needs(CONFIG), checkpoint.tensors, checkpoint.layout)
    assert dict(packed_in_file_type(CONFIG, "q8_0")) == dict(packed_in_catalog(catalog))
    assert not packed_in_file_type(CONFIG, "bf16")
    assert not packed_in_file_type(CONFIG, "fp8")


def test_up_projections_are_expanded_where_one_half_has_no_kernel() -> None:
    # rows of 192 columns are no whole blocks of Q4_K: the key half becomes Q5_0
    config = MODEL_PRESETS["glm-5.2"].config
    packed = packed_in_file_type(config, "q4_k_m")
    assert packed["model.layers.0.self_attn.kv_b_proj.key"].type_name == "Q5_0"
    without = packed_in_file_type(config, "q4_k_m", PACKED_TYPES - {"Q5_0"})
    assert {name for name in packed if ".kv_b_proj." in name} == packed.keys() - without.keys()


def test_packed_and_expanded_bytes_make_up_the_weights() -> None:
    packed = packed_in_file_type(CONFIG, "q8_0")
    weights = native_weights(CONFIG, packed, "f32")
    packed_bytes = sum(parameter.num_bytes for parameter in packed.values())
    assert sum(weights.class_bytes.values()) == packed_bytes + weights.expanded_bytes
    assert weights.class_bytes["norms"] == memory_weights(CONFIG, "f32", None)["norms"]
    assert dict(native_weights(CONFIG, {}, "f32").class_bytes) == dict(memory_weights(CONFIG, "f32", None))


def test_products_are_told_from_experts_feed_forwards_and_the_ends() -> None:
    weights = native_weights(CONFIG, packed_in_file_type(CONFIG, "q8_0"), "f32")
    assert weights.experts == (320, 96)
    assert weights.forwards == ((320, 96), (320, 832))
    assert PackedProduct(256, 192, is_fine=True) in weights.products
    assert all(product.rows != CONFIG.vocab_size for product in weights.products)
    assert weights.has_packed_up


def test_a_wider_file_type_never_takes_fewer_bytes_where_its_types_have_kernels() -> None:
    sizes = [
        sum(native_weights(CONFIG, packed_in_file_type(CONFIG, kind), "f32").class_bytes.values())
        for kind in ("q4_0", "q8_0", "f16")
    ]
    assert sizes == sorted(sizes)
