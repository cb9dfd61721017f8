"""Small repositories for the tests of ask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FILES = {
    "README.md": "# Lens\n\nA lens looks.\n",
    "src/lens.py": "def focus(distance):\n    return 1 / distance\n\n\nclass Lens:\n    pass\n",
    "src/light.py": "import lens\n\n\ndef shine():\n    return lens.focus(2)\n",
}


def make_repository(root: Path, files: Mapping[str, str] = FILES) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
