from __future__ import annotations

import inspect
import re

import pytest

from longlens import errors
from longlens.errors import CapacityError, ContextLengthError, LonglensError, UsageError

TREE = {name: thing for name, thing in vars(errors).items() if inspect.isclass(thing)}


def test_an_error_prints_its_fault_and_its_mend_on_two_lines() -> None:
    error = UsageError("the context is 0 tokens", "--context 4096 fits")
    assert str(error) == "the context is 0 tokens\nhint: --context 4096 fits"
    assert (error.fault, error.mend) == ("the context is 0 tokens", "--context 4096 fits")


@pytest.mark.parametrize("kind", TREE.values(), ids=TREE)
def test_no_error_can_be_raised_without_a_mend(kind: type[LonglensError]) -> None:
    with pytest.raises(TypeError):
        kind("something is wrong")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", TREE.values(), ids=TREE)
def test_every_error_can_be_caught_as_one_of_ours(kind: type[LonglensError]) -> None:
    with pytest.raises(LonglensError, match="hint: do this"):
        raise kind("something is wrong", "do this")


def test_a_context_that_is_too_long_is_a_matter_of_capacity() -> None:
    assert issubclass(ContextLengthError, CapacityError)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    shown = re.findall(r"^((?:│|├|└|─| )*)(\w+Error)", errors.__doc__ or "", re.MULTILINE)
    parents: list[str] = []
    drawn: dict[str, str] = {}
    for indent, name in shown:
        depth = len(indent) // 4
        drawn[name] = parents[depth - 1] if depth else "Exception"
        parents[depth:] = [name]
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in TREE.items()}
