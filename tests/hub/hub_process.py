"""Starts the small hub as a process of its own, and longlens as another, so that this one needs no network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.terminal import environment
from tests.hub import hub_server

COMMIT = hub_server.COMMIT


@dataclass(frozen=True)
class HubProcess:
    """The hub: its folder, and the user's home beside it."""

    root: Path
    ports: tuple[int, int]

    @property
    def cache(self) -> Path:
        return self.root / "home" / "hub"

    def publish(self, repository: str, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.root / "repositories" / repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def fail(self, repository: str, **faults: object) -> None:
        (self.root / "faults.json").write_text(json.dumps({repository: faults}))

    def requests(self) -> list[dict[str, str]]:
        log = self.root / "requests.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def contents(self) -> list[dict[str, str]]:
        return [request for request in self.requests() if "/resolve/" in request["path"]]

    def environment(self, **more: str) -> dict[str, str]:
        clean = {n: v for n, v in environment().items() if not n.startswith("HF_") and "proxy" not in n.lower()}
        own = {"HF_ENDPOINT": f"http://127.0.0.1:{self.ports[0]}", "HF_HOME": str(self.root / "home")}
        return clean | own | {"NO_PROXY": "127.0.0.1"} | more

    def longlens(self, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*words), capture_output=True, timeout=120, check=False, env=self.environment(**more)
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "longlens", *words]

    def snapshot(self, repository: str) -> Path:
        return self.cache / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT

    def partials(self) -> list[Path]:
        return sorted(self.root.rglob("*.incomplete"))


@contextmanager
def hub_process(root: Path) -> Iterator[HubProcess]:
    command = [sys.executable, hub_server.__file__, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield HubProcess(root, tuple(json.loads(process.stdout.readline())))
        finally:
            process.terminate()
