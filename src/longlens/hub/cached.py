"""Models that lie in the shared cache already, found without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from longlens.errors import ModelNotFoundError
from longlens.hub.selection import INDEX, Selection, choose_model


def repository_folder(cache: Path, repository: str) -> Path:
    """The cache's folder of a repository."""
    return cache / f"models--{repository.replace('/', '--')}"


def find_cached(root: Path, repository: str, quant: str | None) -> Path | None:
    """Find a whole model in a repository's folder of the cache.

    The commit that `main` was when last asked comes first, then the others, the newest first.

    Args:
        root: the repository's folder in the cache.
        repository: its name, for errors.
        quant: which quantisation, None for the one that `choose_model` takes.

    Returns:
        A GGUF file (of a split model, its first shard), the folder of a safetensors checkpoint, or None.

    Raises:
        UsageError: several models have the quantisation.
    """
    for snapshot in _snapshots(root):
        names = [str(path.relative_to(snapshot)) for path in sorted(snapshot.rglob("*")) if path.is_file()]
        try:
            selection = choose_model(names, repository, quant)
        except ModelNotFoundError:
            continue  # this commit has other files of the repository
        if _is_whole(snapshot, selection):
            return snapshot / selection.entries[0]
    return None


def _snapshots(root: Path) -> Iterator[Path]:
    try:
        folders = [path for path in (root / "snapshots").iterdir() if path.is_dir()]
        main = (root / "refs" / "main").read_text().strip() if (root / "refs" / "main").is_file() else None
    except (OSError, UnicodeDecodeError):
        return
    yield from sorted(folders, key=lambda path: (path.name != main, -path.stat().st_mtime))


def _is_whole(snapshot: Path, selection: Selection) -> bool:
    """Whether every shard that an index names is there."""
    if INDEX not in selection.files:
        return True
    try:
        shards = set(json.loads((snapshot / INDEX).read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return all(isinstance(name, str) and (snapshot / name).is_file() for name in shards)
