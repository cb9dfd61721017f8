from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.text.argument_values import is_text, value_as_json

INTEGER, STRING, NULLABLE = {"type": "integer"}, {"type": "string"}, {"type": ["string", "null"]}
EITHER = {"anyOf": [{"type": "string"}, {"type": "integer"}]}


@pytest.mark.parametrize("schema", [STRING, {"type": ["string"]}, {"enum": ["a", "b"]}])
def test_only_strings(schema: object) -> None:
    assert is_text(schema)


@pytest.mark.parametrize("schema", [None, {}, [], INTEGER, NULLABLE, EITHER, {"enum": ["a", 1]}, {"enum": []}])
def test_not_only_strings(schema: object) -> None:
    assert not is_text(schema)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("5", STRING, "5"),
        (" 5\n", STRING, " 5\n"),
        ('"a"', STRING, '"a"'),
        ("5", INTEGER, 5),
        (" 5\n", INTEGER, 5),
        ("true", {"type": "boolean"}, True),
        ("True", {"type": "boolean"}, "True"),
        ("[1, {}]", {"type": "array"}, [1, {}]),
        ('{"a": "b"}', {"type": "object"}, {"a": "b"}),
        ("null", NULLABLE, None),
        ("nullable", NULLABLE, "nullable"),
        ("5", NULLABLE, "5"),
        ('"a"', NULLABLE, '"a"'),
        ("5", EITHER, 5),
        ("5.5", EITHER, "5.5"),
        ("true", EITHER, "true"),
        ("5", {"oneOf": [STRING, {"type": "number"}]}, 5),
        ("5", None, 5),
        ("five", None, "five"),
        ('"five"', None, "five"),
        ("", None, ""),
        ("NaN", None, "NaN"),
        ("-Infinity", {"type": "number"}, "-Infinity"),
        ("[" * 100_000, {"type": "array"}, "[" * 100_000),
        ("9" * 5000, INTEGER, "9" * 5000),
        ("5", {"type": 7, "anyOf": "x"}, 5),
    ],
)
def test_a_value_is_what_the_schema_allows(text: str, schema: object, value: object) -> None:
    read = json.loads(value_as_json(text, schema))
    assert read == value
    assert type(read) is type(value)


def test_a_number_is_written_as_the_model_wrote_it() -> None:
    assert value_as_json("1.50e3", {"type": "number"}) == "1.50e3"
    assert value_as_json("12345678901234567890123", INTEGER) == "12345678901234567890123"


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(JSON)
def test_json_comes_back(value: object) -> None:
    assert json.loads(value_as_json(json.dumps(value), None)) == value


@given(st.text(), st.sampled_from([None, STRING, INTEGER, NULLABLE, EITHER]))
def test_any_text_becomes_json(text: str, schema: object) -> None:
    json.loads(value_as_json(text, schema))
    assert not is_text(schema) or json.loads(value_as_json(text, schema)) == text
