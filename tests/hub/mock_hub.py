"""A hub inside this process: huggingface_hub's client with a transport that answers from a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import close_session, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from longlens.hub.listing import HubAccess

Answer = Callable[[httpx2.Request], httpx2.Response]
ACCESS = HubAccess(endpoint="http://hub", retry_waits_seconds=(0, 0))


@contextmanager
def answering(answer: Answer) -> Iterator[list[httpx2.Request]]:
    """Let requests be answered by a function; the list fills with them."""
    requests: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return answer(request)

    set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(handle), follow_redirects=True))
    try:
        yield requests
    finally:
        close_session()
        set_client_factory(default_client_factory)


class Watched:
    """Keeps what a download reports."""

    def __init__(self) -> None:
        self.announced = (0, 0)
        self.num_bytes = 0
        self.checked: list[str] = []

    def start(self, num_files: int, total_bytes: int) -> None:
        self.announced = (num_files, total_bytes)

    def received(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes

    def checking(self, name: str) -> None:
        self.checked.append(name)
