"""A file on the hub as a ByteSource: ranges are asked for as they are needed, so that headers open without the rest.

Source: RFC 9110, section 14 (range requests).
"""

from __future__ import annotations

from huggingface_hub import constants, get_session
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented, not listed

from longlens.errors import FormatError
from longlens.hub.faults import HTTP_ERROR, hub_fault
from longlens.hub.listing import HubAccess, HubFile
from longlens.units import MIB

# Headers are read in many small pieces: a window of this size is fetched once and serves them.
WINDOW_BYTES = 4 * MIB


class RemoteFile:
    """One file of a repository, read by ranges over HTTP; nothing is kept on disk."""

    def __init__(self, url: str, file: HubFile, access: HubAccess) -> None:
        """Remember where the file is; nothing is asked for yet."""
        self._url = url
        self._file = file
        self._access = access
        self._start = 0
        self._window = b""

    @property
    def name(self) -> str:
        """Path within the repository."""
        return self._file.name

    @property
    def num_bytes(self) -> int:
        """Length that the hub states."""
        return self._file.num_bytes

    def read(self, offset: int, num_bytes: int) -> memoryview:
        """Return exactly this range.

        Raises:
            FormatError: the range lies outside of the file, or the hub answers with another one.
            ModelNotFoundError: the hub refuses, or cannot be reached.
        """
        end = offset + num_bytes
        if offset < 0 or num_bytes < 0 or end > self.num_bytes:
            raise FormatError(
                f"{self.name} holds {self.num_bytes} bytes, bytes {offset} to {end} were asked for",
                "its header names more than the file holds: its upload is damaged or not finished",
            )
        if num_bytes == 0:
            return memoryview(b"")
        if not self._start <= offset <= end <= self._start + len(self._window):
            self._start = offset
            self._window = self._fetch(offset, min(max(end, offset + WINDOW_BYTES), self.num_bytes))
        begin = offset - self._start
        return memoryview(self._window)[begin : begin + num_bytes]

    def close(self) -> None:
        """Forget what was fetched."""
        self._start, self._window = 0, b""

    def _fetch(self, begin: int, end: int) -> bytes:
        access = self._access
        headers = access.headers() | {"range": f"bytes={begin}-{end - 1}"}
        try:
            with get_session().stream(
                "GET", self._url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            ) as response:
                hf_raise_for_status(response)
                is_range = response.status_code == 206
                # A server that ignores ranges would send hundreds of gigabytes: it is not listened to.
                content = response.read() if is_range or self.num_bytes <= WINDOW_BYTES else b""
        except (HTTP_ERROR, OSError) as error:
            raise hub_fault(error, self.name, access.endpoint, has_token=bool(access.token)) from None
        if not is_range:
            content = content[begin:end]
        if len(content) != end - begin:
            raise FormatError(
                f"{access.endpoint} answered with {len(content)} bytes of {self.name} for {end - begin}",
                "it does not serve ranges; pull the model and plan for the file",
            )
        return bytes(content)
