"""Which files of a repository make up the model that was asked for. Works on names alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from longlens.errors import ModelNotFoundError, UsageError

DEFAULT_QUANT = "Q4_K_M"
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})(?P<ending>\.gguf|\.safetensors)")
_LABEL = re.compile(
    r"(?:^|[-._/])(?P<label>(?:UD-)?(?:I?Q[1-8](?:_[A-Z0-9]+)*|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32))", re.I
)
# GGUF files that lie beside models and are none: image projectors, importance matrices.
_NO_MODEL = ("mmproj", "imatrix")
_SIDE_ENDINGS = (".json", ".jinja", ".model", ".tiktoken")
_SIDE_NAMES = ("merges.txt", "vocab.txt")
_MOST_LISTED = 12


@dataclass(frozen=True)
class Selection:
    """What is to be fetched.

    Attributes:
        files: names within the repository, the small ones that a model needs first, then its weights in order.
        entries: what to open: the file (of a split model, its first shard); "" is the folder of all files.
        note: a choice that was made for the user, in a sentence; None where none was.
    """

    files: tuple[str, ...]
    entries: tuple[str, ...]
    note: str | None = None


def choose_model(names: Sequence[str], repository: str, quant: str | None) -> Selection:
    """Choose a model's files: a GGUF quantisation with all its shards, or a safetensors checkpoint.

    Without a quant, a repository with config.json and .safetensors files is the latter; else Q4_K_M is taken, else the
    first GGUF model by name. A quant is matched whole and in any case, against the end of the file's name first.

    Args:
        names: every file of the repository, with slashes.
        repository: its name, for errors.
        quant: such as "Q4_K_M".

    Raises:
        ModelNotFoundError: there is no such quantisation, no model at all, or a split model lacks shards.
        UsageError: several models have the quantisation.
    """
    ordered = sorted(names)
    if quant is None and CONFIG in ordered and _weights(ordered):
        return _safetensors(ordered, repository)
    groups = _gguf_groups(ordered)
    if not groups:
        if quant is not None and _weights(ordered):
            raise ModelNotFoundError(
                f"{repository} holds safetensors files, which have no quantisation {quant!r}",
                f"leave it out: longlens pull {repository}",
            )
        raise ModelNotFoundError(
            f"{repository} holds neither a .gguf file nor {CONFIG} with .safetensors files",
            "name a repository with one of them",
        )
    stem, note = _choose_group(groups, repository, quant)
    shards = _complete(groups[stem], repository)
    return Selection(shards, (shards[0],), note)


def choose_files(names: Sequence[str], repository: str, wanted: Sequence[str]) -> Selection:
    """Choose files by name; a shard of a split model brings the others along.

    Args:
        names: every file of the repository, with slashes.
        repository: its name, for errors.
        wanted: paths within the repository, or a file's name where only one folder has it.

    Raises:
        ModelNotFoundError: the repository has no such file (the nearest name is given), or lacks shards of it.
        UsageError: several folders have a file of that name.
    """
    files: dict[str, None] = {}
    entries: dict[str, None] = {}
    for text in wanted:
        name = _find(names, repository, text)
        match = _SHARD.fullmatch(name)
        shards = _complete([name], repository, names) if match else (name,)
        files.update(dict.fromkeys(shards))
        entries[shards[0]] = None
    return Selection(tuple(files), tuple(entries))


def missing_shards(names: Sequence[str]) -> list[str]:
    """Name what the numbers in the names of split files promise and the names do not hold."""
    present = set(names)
    missing: dict[str, None] = {}
    for name in names:
        missing.update((shard, None) for shard in _siblings(name) if shard not in present)
    return list(missing)


def _choose_group(groups: dict[str, list[str]], repository: str, quant: str | None) -> tuple[str, str | None]:
    wanted = quant or DEFAULT_QUANT
    found = [stem for stem in groups if _label(stem).upper() == wanted.upper()]
    if not found:
        whole = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(wanted)}(?=[-./]|$)", re.IGNORECASE)
        found = [stem for stem in groups if whole.search(stem)]
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} models in {repository} are {wanted}: {_listed([groups[stem][0] for stem in found])}",
            f"name the file: longlens pull {repository} {groups[found[0]][0]}",
        )
    if found:
        return found[0], None if quant or len(groups) == 1 else f"of {len(groups)} models, {wanted} is taken"
    if quant is not None:
        labels = sorted({_label(stem) or groups[stem][0] for stem in groups})
        raise ModelNotFoundError(f"{repository} has no quantisation {quant!r}", f"it has: {_listed(labels)}")
    first = next(iter(groups))
    note = None if len(groups) == 1 else f"none of {len(groups)} models is {wanted}; the first is taken: {first}"
    return first, note


def _gguf_groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Files of each GGUF model by what their names have in common."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(".gguf") and not name.rsplit("/", 1)[-1].lower().startswith(_NO_MODEL):
            match = _SHARD.fullmatch(name)
            groups.setdefault(match["stem"] if match else name.removesuffix(".gguf"), []).append(name)
    return groups


def _label(stem: str) -> str:
    """The quantisation that a model's name ends in, "" where it ends in none."""
    labels = [match["label"] for match in _LABEL.finditer(stem) if match.end() == len(stem)]
    return labels[0] if labels else ""


def _weights(names: Sequence[str]) -> list[str]:
    """The safetensors files that transformers would load, in its order of preference."""
    files = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    if _SINGLE in files:
        return [_SINGLE]
    return [name for name in files if name.startswith("model-")] or files


def _safetensors(names: Sequence[str], repository: str) -> Selection:
    weights = _weights(names)
    missing = missing_shards(weights)
    if missing:
        raise _incomplete(repository, missing)
    side = [name for name in names if "/" not in name and (name.endswith(_SIDE_ENDINGS) or name.lower() in _SIDE_NAMES)]
    if weights == [_SINGLE]:
        side = [name for name in side if name != INDEX]
    return Selection((*side, *weights), ("",))


def _complete(members: Sequence[str], repository: str, names: Sequence[str] | None = None) -> tuple[str, ...]:
    shards = _siblings(members[0]) or (members[0],)
    missing = [name for name in shards if name not in set(members if names is None else names)]
    if missing:
        raise _incomplete(repository, missing)
    return shards


def _siblings(name: str) -> tuple[str, ...]:
    match = _SHARD.fullmatch(name)
    if match is None:
        return ()
    count = int(match["count"])
    return tuple(f"{match['stem']}-{n:05d}-of-{count:05d}{match['ending']}" for n in range(1, count + 1))


def _incomplete(repository: str, missing: Sequence[str]) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{repository} lacks {len(missing)} shards of a split model: {_listed(missing)}",
        "its upload is not finished; ask its owner, or choose another",
    )


def _find(names: Sequence[str], repository: str, text: str) -> str:
    if text in names:
        return text
    found = sorted(name for name in names if name.rsplit("/", 1)[-1] == text)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} files of {repository} are called {text}: {_listed(found)}", "name its folder")
    close = get_close_matches(text, names, n=1, cutoff=0.5)
    mend = f"did you mean {close[0]}?" if close else f"it has: {_listed(sorted(names))}"
    raise ModelNotFoundError(f"{repository} has no file {text}", mend)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more
