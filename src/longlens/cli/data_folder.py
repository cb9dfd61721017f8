"""Where longlens keeps what it may make again: packs, later caches."""

from __future__ import annotations

import os
from pathlib import Path

from longlens.cli.model_options import ModelWishes


def cache_folder(wish: Path | None) -> Path:
    """The folder that `--cache-dir` names, else the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    if wish is not None:
        return wish
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "longlens"


def store_folder(wishes: ModelWishes) -> Path | None:
    """The same for a command that runs a model; None where nothing may be kept."""
    return None if wishes.keeps_nothing else cache_folder(wishes.cache_dir)
