"""The values of a tool call's arguments: written as text by the model, wanted as JSON by the caller.

GLM writes strings as they are and everything else as JSON, and the text does not say which it is. The tool's schema
does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NoReturn


def is_text(schema: object) -> bool:
    """The schema allows nothing but strings, so that a value is taken as it stands."""
    if not isinstance(schema, Mapping):
        return False
    if "type" in schema:
        return schema["type"] in ("string", ["string"])
    choices = schema.get("enum")
    return isinstance(choices, list) and bool(choices) and all(isinstance(choice, str) for choice in choices)


def value_as_json(text: str, schema: object) -> str:
    """Write a value as JSON: as it stands if it is JSON of a type that the schema allows, else as a string."""
    if is_text(schema):
        return text_as_json(text)
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text_as_json(text)
    allowed = set(_types(schema))
    if "string" in allowed and (isinstance(value, str) or not allowed & _types_of(value)):
        return text_as_json(text)
    return text.strip()


def text_as_json(text: str) -> str:
    """Write text as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def _types(schema: object) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    named = schema.get("type", [])
    yield from [named] if isinstance(named, str) else named if isinstance(named, list) else []
    for key in ("anyOf", "oneOf"):
        choices = schema.get(key)
        for choice in choices if isinstance(choices, list) else []:
            yield from _types(choice)


def _types_of(value: object) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    names = {float: "number", list: "array", dict: "object", type(None): "null"}
    return {names[type(value)]} if type(value) in names else set()


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
