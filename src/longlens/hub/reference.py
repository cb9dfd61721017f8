"""What people write to name a model, read into a record: a path, a repository on Hugging Face, or `pocket`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from huggingface_hub import constants

from longlens.errors import ModelNotFoundError, UsageError
from longlens.hub.cached import find_cached, repository_folder


@dataclass(frozen=True)
class LocalReference:
    """A file or folder on this machine; it need not exist."""

    path: Path


@dataclass(frozen=True)
class HubReference:
    """A repository on Hugging Face.

    Attributes:
        repository: "organisation/name".
        quant: which of its quantisations, e.g. "Q4_K_M"; None where none was named.
    """

    repository: str
    quant: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}:{self.quant}" if self.quant else self.repository


@dataclass(frozen=True)
class PocketReference:
    """The small model that comes with longlens."""


ModelReference = LocalReference | HubReference | PocketReference

POCKET_FILE = Path(__file__).parents[1] / "pocket" / "pocket.gguf"
_PREFIXES = ("hf:", "https://hf.co/", "https://huggingface.co/", "hf.co/", "huggingface.co/")
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPOSITORY = re.compile(rf"(?P<repository>{_WORD}/{_WORD})(?::(?P<quant>{_WORD}))?")
_PATH_ENDINGS = (".gguf", ".safetensors", ".json")


def parse_reference(text: str) -> ModelReference:
    """Read a model reference.

    `org/repo` is a repository unless a folder `org` is here, in which case it is a path, and so is everything else;
    `hf:org/repo` is always a repository. For a folder that is called pocket, write `./pocket`.

    Args:
        text: "path", "org/repo[:quant]", "hf:org/repo[:quant]", "hf.co/org/repo[:quant]" or "pocket".

    Raises:
        UsageError: the text is empty, or has a hub prefix and no repository after it.
    """
    if not text.strip():
        raise UsageError("the model's name is empty", "name a file, a folder, org/repo:quant, or pocket")
    if text == "pocket":
        return PocketReference()
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            return _repository(text.removeprefix(prefix).rstrip("/"), text)
    match = _REPOSITORY.fullmatch(text)
    if match is None or text.endswith(_PATH_ENDINGS) or os.path.isdir(text.split("/")[0]):
        return LocalReference(Path(text))
    return HubReference(match["repository"], match["quant"])


def resolve_local(reference: ModelReference, *, cache: Path | None = None) -> Path:
    """Lead a reference to a file or folder on this machine, without a network.

    Args:
        reference: what was asked for.
        cache: where repositories lie; None is the cache that is shared with other programs (HF_HUB_CACHE or HF_HOME).

    Raises:
        ModelNotFoundError: the path does not exist (the nearest name in its folder is given), or the repository's model
            was not pulled yet, or not wholly.
        UsageError: several models of the repository have the quantisation.
    """
    if isinstance(reference, LocalReference):
        if not os.path.exists(reference.path):
            raise _missing(reference.path)
        return reference.path
    if isinstance(reference, PocketReference):
        if not POCKET_FILE.is_file():
            raise ModelNotFoundError(
                f"the embedded model is missing: there is no file {POCKET_FILE}",
                "install longlens again, or name a .gguf file or a model's folder",
            )
        return POCKET_FILE
    folder = repository_folder(cache or Path(constants.HF_HUB_CACHE), reference.repository)
    path = find_cached(folder, reference.repository, reference.quant)
    if path is None:
        raise ModelNotFoundError(f"{reference} is not on this machine, or not whole", f"longlens pull {reference}")
    return path


def _repository(name: str, text: str) -> HubReference:
    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise UsageError(f"{text!r} names no repository", "write hf:org/repo or hf:org/repo:quant")
    return HubReference(match["repository"], match["quant"])


def _missing(path: Path) -> ModelNotFoundError:
    """Name what is most like the missing part in the nearest folder that exists."""
    missing, folder = path, path.parent
    while not os.path.isdir(folder) and folder != folder.parent:
        missing, folder = folder, folder.parent
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    close = get_close_matches(missing.name, names, n=1, cutoff=0.5)
    mend = f"did you mean {folder / close[0]}?" if close else f"nothing in {folder} has a name like it; check the path"
    return ModelNotFoundError(f"there is no file {path}", mend)
