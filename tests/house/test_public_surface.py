"""The public names of longlens: adding one is a decision, losing one breaks somebody."""

from __future__ import annotations

import inspect
import re
import tomllib
from types import ModuleType

import pytest

import longlens
from longlens import errors
from tests.house.tree_rules import REPOSITORY

SURFACE = {
    *("load", "LoadedModel", "Session", "SamplingParams", "Asking", "ChatOptions"),
    *("Message", "Tool", "ToolCall"),
    *("ReasoningDelta", "TextDelta", "ToolCallDelta", "Finished"),
    *("LonglensError", "UsageError", "FormatError", "ModelFileError", "UnsupportedModelError", "ConfigError"),
    *("ParameterError", "ModelNotFoundError", "CapacityError", "ContextLengthError", "ShapeError"),
    *("SelectionError", "LogitsError", "TemplateError", "CancelledError"),
    "__version__",
}


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(longlens.__all__) == SURFACE
    assert len(longlens.__all__) == len(SURFACE)


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_every_public_name_resolves_to_a_thing_with_a_docstring(name: str) -> None:
    thing = getattr(longlens, name)
    assert not isinstance(thing, ModuleType)
    assert name == "__version__" or inspect.getdoc(thing)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        longlens.lode  # noqa: B018


def test_dir_lists_names_that_are_not_loaded_yet() -> None:
    assert set(dir(longlens)) >= SURFACE


def test_every_error_of_the_tree_is_public() -> None:
    tree = {name for name, thing in vars(errors).items() if inspect.isclass(thing) and issubclass(thing, Exception)}
    assert tree <= SURFACE


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## \[?([^\]\s]+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == longlens.__version__


def test_the_command_is_installed_under_its_name() -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"longlens": "longlens.cli:main"}
