"""A pytest plugin that runs any tests against a wrong model, to see which of them notice.

    python -m pytest -p tests.agreement.apply_mutation --mutation 2 tests/model

Mutations are counted from 0 in the order of `mutations.MUTATIONS`.
"""

from __future__ import annotations

import pytest

from tests.agreement.mutations import MUTATIONS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutation", type=int, choices=range(len(MUTATIONS)), required=True)


def pytest_configure(config: pytest.Config) -> None:
    patch = pytest.MonkeyPatch()
    list(MUTATIONS.values())[config.getoption("mutation")](patch)
    config.add_cleanup(patch.undo)
