"""What `longlens plan` plans for: a preset, a checkpoint on this machine, or a repository on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from longlens.cli.commands import load_part
from longlens.errors import ModelNotFoundError
from longlens.formats.checkpoint import Checkpoint, open_checkpoint
from longlens.hub.reference import HubReference, PocketReference, parse_reference, resolve_local
from longlens.model.config import ModelConfig
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.plan.file_types import catalog_bytes
from longlens.plan.packed import Packed, packed_in_catalog
from longlens.plan.presets import ModelPreset, find_preset
from longlens.weights.catalog import build_catalog


@dataclass(frozen=True)
class PlannedModel:
    """A model to plan for.

    Attributes:
        name: for people.
        config: its geometry.
        stored: bytes of each class of weights in its file; None for a preset.
        preset: where it came from, or made up for a checkpoint, for tables and advice.
        packed: what C++ kernels leave packed of its file; None for a preset.
    """

    name: str
    config: ModelConfig
    stored: Mapping[str, int] | None
    preset: ModelPreset
    packed: Packed | None = None


def find_model(text: str) -> PlannedModel:
    """Find what a reference means; only a repository that is neither a preset nor on this machine asks the hub.

    Raises:
        LonglensError: it leads nowhere, or to no checkpoint that longlens knows.
    """
    preset = find_preset(text)
    if preset is not None and preset.name == "pocket":
        with open_checkpoint(resolve_local(PocketReference())) as checkpoint:
            return replace(model_of_checkpoint(checkpoint, preset.name), preset=preset)
    if preset is not None:
        return PlannedModel(preset.name, preset.config, None, preset)
    reference = parse_reference(text)
    try:
        path = resolve_local(reference)
    except ModelNotFoundError:
        if not isinstance(reference, HubReference):
            raise
        model: PlannedModel = load_part("plan ORG/REPO")(reference)
        return model
    with open_checkpoint(path) as checkpoint:
        return model_of_checkpoint(checkpoint, path.name)


def model_of_checkpoint(checkpoint: Checkpoint, name: str) -> PlannedModel:
    """Read geometry and sizes from a checkpoint's headers.

    Raises:
        ModelFileError: they are not those of a model that longlens knows.
    """
    config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
    catalog = build_catalog(parameter_needs(config), checkpoint.tensors, checkpoint.layout)
    preset = ModelPreset(name, name, config, str(checkpoint.path))
    return PlannedModel(name, config, catalog_bytes(catalog, config), preset, packed_in_catalog(catalog))
