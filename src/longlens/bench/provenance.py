"""Which code is running: the commit of the checkout that this package lies in, if it lies in one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_GIT_SECONDS = 20


def checkout_commit(package: Path = _PACKAGE) -> str | None:
    """The commit as `git describe` writes it, with `-dirty` for changed files; None outside a checkout.

    A package that is merely installed somewhere inside another project's repository has no commit.

    Args:
        package: folder of the package; its checkout is two folders up (src/longlens).
    """
    root = package.parent.parent
    if _git(root, "rev-parse", "--show-toplevel") != str(root.resolve()):
        return None
    return _git(root, "describe", "--always", "--dirty", "--abbrev=12", "--tags")


def _git(folder: Path, *words: str) -> str | None:
    tool = shutil.which("git")
    if tool is None:
        return None
    command = [tool, "-C", str(folder), *words]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
