"""Files that the command line writes: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from longlens.errors import UsageError


def write_whole(path: Path, text: str) -> None:
    """Write a text file; under its name there is never half of it.

    Raises:
        UsageError: the folder is missing, full, or may not be written to.
    """
    temporary = None
    try:
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", "name a file in a folder you can write to"
        ) from None
