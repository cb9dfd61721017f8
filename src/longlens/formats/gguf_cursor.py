"""Reading a GGUF header front to back, with every length checked before anything is made for it.

Source: GGUF specification (ggml, docs/gguf.md), versions 2 and 3; little endian.
"""

from __future__ import annotations

from struct import Struct

from longlens.errors import FormatError
from longlens.formats.tensors import ByteSource

DAMAGED = "the file is damaged or cut short: download it again, and compare its size with the publisher's"

# Real headers, tokenizer included, take 5 to 20 MB. The limit keeps a damaged count in a file of hundreds of
# gigabytes from turning its weights into a header.
MAX_HEADER_BYTES = 256 * 1024**2
MAX_ARRAY_ELEMENTS = 2**24
_MAX_ARRAY_DEPTH = 4
_WINDOW_BYTES = 1024**2

_U32, _U64 = Struct("<I"), Struct("<Q")
UINT32 = 4
_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", UINT32: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
_ARRAY_HEADER_BYTES = 12


class GgufCursor:
    """A place in a GGUF header that moves forward as values are read.

    It looks through a window of at least 1 MiB, so that a mapped file costs nothing and a remote one few requests.

    Args:
        source: the file.
    """

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self._limit = min(source.num_bytes, MAX_HEADER_BYTES)
        self._window = memoryview(b"")
        self._window_start = 0
        self._at = 0  # within the window

    @property
    def position(self) -> int:
        """Position in the file of the next byte."""
        return self._window_start + self._at

    @property
    def remaining_bytes(self) -> int:
        """Bytes that the header can still take."""
        return self._limit - self.position

    def uint32(self, what: str) -> int:
        """Read an unsigned 32-bit number; `what` names it in the error."""
        at = self._advance(4, what)
        return int(_U32.unpack_from(self._window, at)[0])

    def uint64(self, what: str) -> int:
        """Read an unsigned 64-bit number; `what` names it in the error."""
        at = self._advance(8, what)
        return int(_U64.unpack_from(self._window, at)[0])

    def count(self, least_bytes: int, what: str) -> int:
        """Read how many things follow, each of at least `least_bytes`; refuse what the file cannot hold."""
        count = self.uint64(what)
        if count * least_bytes > self.remaining_bytes:
            raise self.fault(f"{what} is {count}, more than the {self.remaining_bytes} bytes that follow can hold")
        return count

    def string(self, what: str) -> str:
        """Read a length and that many bytes of UTF-8."""
        num_bytes = self.uint64(f"the length of {what}")
        start = self.position
        at = self._advance(num_bytes, what)
        try:
            return str(self._window[at : at + num_bytes], "utf-8")
        except UnicodeDecodeError:
            raise self.fault(f"{what}, at byte {start}, is not UTF-8 text") from None

    def value(self, type_id: int, what: str, depth: int = 0) -> object:
        """Read a metadata value: int, float, bool, str, or a tuple of them for an array.

        Args:
            type_id: GGUF's number of the value type.
            what: names the value in the error.
            depth: arrays that this value lies in.

        Raises:
            FormatError: an unknown type, a length beyond the file, text that is not UTF-8, a bool that is neither.
        """
        if type_id == _STRING:
            return self.string(what)
        if type_id == _ARRAY:
            if depth == _MAX_ARRAY_DEPTH:
                raise self.fault(f"{what} nests arrays more than {_MAX_ARRAY_DEPTH} deep")
            return self._array(what, depth + 1)
        return self._numbers(type_id, 1, what)[0]

    def fault(self, text: str) -> FormatError:
        """An error about this file, to be raised."""
        return FormatError(f"{self.source.name}: {text}", DAMAGED)

    def _array(self, what: str, depth: int) -> tuple[object, ...]:
        type_id = self.uint32(f"the element type of {what}")
        least_bytes = self._least_bytes(type_id, what)
        count = self.count(least_bytes, f"the length of {what}")
        if count > MAX_ARRAY_ELEMENTS:
            raise self.fault(f"{what} has {count} elements, more than {MAX_ARRAY_ELEMENTS}")
        if type_id == _STRING:
            return self._strings(count, what)
        if type_id == _ARRAY:
            return tuple(self.value(_ARRAY, what, depth) for _ in range(count))
        return self._numbers(type_id, count, what)

    def _strings(self, count: int, what: str) -> tuple[str, ...]:
        # A vocabulary is 150,000 strings, so the usual case, a string within the window, is read in line.
        texts: list[str] = []
        unpack = _U64.unpack_from
        while len(texts) < count:
            window, at, end = self._window, self._at, len(self._window)
            try:
                for _ in range(count - len(texts)):
                    if at + 8 > end:
                        break
                    (num_bytes,) = unpack(window, at)
                    stop = at + 8 + num_bytes
                    if stop > end:
                        break
                    texts.append(str(window[at + 8 : stop], "utf-8"))
                    at = stop
            except UnicodeDecodeError:
                raise self.fault(f"entry {len(texts)} of {what} is not UTF-8 text") from None
            self._at = at
            if len(texts) < count:
                texts.append(self.string(f"entry {len(texts)} of {what}"))
        return tuple(texts)

    def _numbers(self, type_id: int, count: int, what: str) -> tuple[object, ...]:
        self._least_bytes(type_id, what)
        layout = Struct(f"<{count}{_NUMBERS.get(type_id, 'B')}")
        at = self._advance(layout.size, what)
        numbers = layout.unpack_from(self._window, at)
        if type_id != _BOOL:
            return numbers
        if any(number > 1 for number in numbers):
            raise self.fault(f"{what} is a bool that is neither 0 nor 1")
        return tuple(number == 1 for number in numbers)

    def _least_bytes(self, type_id: int, what: str) -> int:
        if type_id in _NUMBERS:
            return Struct(f"<{_NUMBERS[type_id]}").size
        least_bytes = {_BOOL: 1, _STRING: 8, _ARRAY: _ARRAY_HEADER_BYTES}.get(type_id)
        if least_bytes is None:
            raise self.fault(f"{what} has value type {type_id}, which GGUF does not define")
        return least_bytes

    def _advance(self, num_bytes: int, what: str) -> int:
        """Step over bytes that are then in the window; return where in the window they start."""
        if num_bytes > self.remaining_bytes:
            raise self.fault(
                f"{what} takes {num_bytes} bytes at byte {self.position}, "
                f"{self.remaining_bytes} are left{self._limit_note()}"
            )
        if self._at + num_bytes > len(self._window):
            start = self.position
            length = max(num_bytes, min(_WINDOW_BYTES, self._limit - start))
            self._window, self._window_start, self._at = self.source.read(start, length), start, 0
        at = self._at
        self._at += num_bytes
        return at

    def _limit_note(self) -> str:
        return "" if self._limit == self.source.num_bytes else f" of the {MAX_HEADER_BYTES} that a header may take"
