"""Reading JSON that must be an object: config.json, shard indexes, safetensors headers."""

from __future__ import annotations

import json

from longlens.errors import FormatError
from longlens.formats.quoting import quote


def read_json_object(text: memoryview | bytes, name: str) -> dict[str, object]:
    """Read a JSON object from UTF-8 bytes.

    Args:
        text: the whole document.
        name: what to call it in an error.

    Raises:
        FormatError: not UTF-8, not JSON, nested beyond reading, a key twice in one object, or not an object.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise FormatError(f"{name} has the key {quote(key)} twice", "remove one of them, or download it again")
            found[key] = value
        return found

    try:
        value = json.loads(str(text, "utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:  # ValueError: bad UTF-8, bad JSON, numbers of thousands of digits
        raise FormatError(f"{name} is not JSON: {error}", "the file is damaged: download it again") from None
    if not isinstance(value, dict):
        raise FormatError(f"{name} is a JSON {type(value).__name__}, not an object", "download it again")
    return value
