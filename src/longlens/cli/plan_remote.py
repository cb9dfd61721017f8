"""A repository on the hub, planned for by the headers of its files: a few MB of hundreds of GB."""

from __future__ import annotations

from pathlib import Path

from longlens.cli.messages import print_note
from longlens.cli.plan_model import PlannedModel, model_of_checkpoint
from longlens.errors import ModelNotFoundError
from longlens.formats.checkpoint import CONFIG, Checkpoint, gguf_checkpoint, safetensors_checkpoint
from longlens.formats.file_set import FileSet
from longlens.formats.json_object import read_json_object
from longlens.formats.safetensors import read_safetensors_index
from longlens.hub.known_names import refuse_known_mistake
from longlens.hub.listing import Listing, access_of_user, list_repository
from longlens.hub.reference import HubReference
from longlens.hub.remote_source import RemoteFile
from longlens.hub.selection import INDEX, choose_model
from longlens.machine import detect_machine


def remote_model(reference: HubReference) -> PlannedModel:
    """Ask the hub for a model's headers.

    Raises:
        LonglensError: the hub has no such model, or cannot be reached.
    """
    refuse_known_mistake(reference.repository, detect_machine)
    access = access_of_user(None)
    listing = list_repository(reference.repository, access)
    selection = choose_model([file.name for file in listing.files], listing.repository, reference.quant)
    if selection.note is not None:
        print_note(selection.note)
    sources = {file.name: RemoteFile(listing.url(file, access.endpoint), file, access) for file in listing.files}
    names = [name for name in selection.files if name.endswith((".gguf", ".safetensors"))]
    print_note(f"reading the headers of {len(names)} files of {listing.repository}")
    checkpoint = _checkpoint(names, sources, listing)
    return model_of_checkpoint(checkpoint, str(reference))


def _checkpoint(names: list[str], sources: dict[str, RemoteFile], listing: Listing) -> Checkpoint:
    path = Path(listing.repository)
    weights = [sources[name] for name in names]
    shards = tuple(Path(name) for name in names)
    if names and names[0].endswith(".gguf"):
        return gguf_checkpoint(path, shards, weights)
    if CONFIG not in sources:
        raise ModelNotFoundError(f"{listing.repository} has no {CONFIG}", "name a repository that holds a whole model")
    config = read_json_object(_whole(sources[CONFIG]), CONFIG)
    index = read_safetensors_index(_whole(sources[INDEX]), INDEX) if INDEX in sources and len(names) > 1 else {}
    return safetensors_checkpoint(path, FileSet("safetensors", shards, index), weights, config)


def _whole(source: RemoteFile) -> bytes:
    return bytes(source.read(0, source.num_bytes))
