"""Files whose text goes before the next message."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from glob import iglob
from pathlib import Path
from typing import NamedTuple

from longlens.chat.dialogue import FileSpan
from longlens.errors import CapacityError, UsageError
from longlens.units import MIB

# A file longer than this many bytes for each token of the context is not even read: no text is so well compressed.
MOST_BYTES_PER_TOKEN = 64
_LEFT_OUT_FOLDERS = frozenset({"node_modules", "__pycache__"})


class _NamedText(NamedTuple):
    name: str
    heading: str
    body: str

    def __str__(self) -> str:
        return f"{self.heading}{self.body}\n"


class Attachments:
    """Texts that wait for the next message. What does not fit the context is refused, and nothing of it is kept."""

    def __init__(self, count_tokens: Callable[[str], int], room_tokens: Callable[[], int]) -> None:
        """Begin with none.

        Args:
            count_tokens: tells how many tokens a text has.
            room_tokens: tells how many the conversation has room for.
        """
        self._count_tokens = count_tokens
        self._room_tokens = room_tokens
        self._texts: list[_NamedText] = []
        self._num_tokens = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts that wait."""
        return self._num_tokens

    def __len__(self) -> int:
        return len(self._texts)

    def before(self, message: str) -> str:
        """The message with the texts before it."""
        return "\n".join([*map(str, self._texts), message])

    def files(self) -> Iterator[FileSpan]:
        """Where each file's text lies in what `before` returns."""
        start = 0
        for text in self._texts:
            body_start = start + len(text.heading)
            yield FileSpan(text.name, start, body_start, body_start + len(text.body))
            start += len(str(text)) + 1

    def clear(self) -> None:
        """Forget all texts."""
        self._texts.clear()
        self._num_tokens = 0

    def add(self, name: str) -> str:
        """Take a file, or all text files of a folder, and say what was taken.

        Raises:
            UsageError: there is no such file or folder, or no text in it.
            CapacityError: more than the context has room for.
        """
        path = Path(name).expanduser()
        return self._add_all(name, _files_below(path)) if path.is_dir() else self.add_file(name)

    def add_file(self, name: str) -> str:
        """Take one file, and say how many tokens it has.

        Raises:
            UsageError, CapacityError: as `add`.
        """
        path = Path(name).expanduser()
        text = _named_text(path, self._most_bytes())
        num_tokens = self._count_tokens(str(text))
        self._check_room(name, num_tokens)
        self._keep([text], num_tokens)
        return f"added {name}: {num_tokens} tokens; {self._sum()}"

    def add_matches(self, pattern: str) -> str:
        """Take all text files that match a pattern, and say what was taken.

        Raises:
            UsageError, CapacityError: as `add`.
        """
        matches = sorted(iglob(os.path.expanduser(pattern), recursive=True))
        return self._add_all(pattern, (Path(match) for match in matches if not Path(match).is_dir()))

    def _add_all(self, name: str, paths: Iterable[Path]) -> str:
        texts: list[_NamedText] = []
        left_out: Counter[str] = Counter()
        num_tokens = 0
        for path in paths:
            try:
                text = _named_text(path, self._most_bytes())
            except UsageError as error:
                left_out[error.fault.removeprefix(f"{path} ")] += 1
                continue
            num_tokens += self._count_tokens(str(text))
            self._check_room(name, num_tokens)
            texts.append(text)
        without = "".join(f"; {count} left out: {reason}" for reason, count in sorted(left_out.items()))
        if not texts:
            raise UsageError(f"{name} leads to no text file{without}", "name a file, a folder or a pattern with text")
        self._keep(texts, num_tokens)
        return f"added {name}: {_count(len(texts))}, {num_tokens} tokens{without}; {self._sum()}"

    def _keep(self, texts: list[_NamedText], num_tokens: int) -> None:
        self._texts += texts
        self._num_tokens += num_tokens

    def _most_bytes(self) -> int:
        return max(MIB, MOST_BYTES_PER_TOKEN * self._room_tokens())

    def _check_room(self, name: str, num_tokens: int) -> None:
        room = self._room_tokens() - self._num_tokens
        if num_tokens >= room:
            raise CapacityError(
                f"{name} has {num_tokens} tokens or more, the context has room for {max(room, 0)}; nothing was added",
                "add less, drop turns with /rewind or all with /clear, or start with a longer --context",
            )

    def _sum(self) -> str:
        return f"{self._num_tokens} tokens go before the next message"


def _count(num_files: int) -> str:
    return "1 text file" if num_files == 1 else f"{num_files} text files"


def _files_below(folder: Path) -> Iterator[Path]:
    """Files of a folder in a stable order; links are not followed, hidden names are passed over."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _LEFT_OUT_FOLDERS)
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and not path.is_symlink():
                yield path


def _named_text(path: Path, most_bytes: int) -> _NamedText:
    # Names need not be UTF-8; what the model reads is.
    shown = os.fsencode(path).decode("utf-8", "replace")
    return _NamedText(shown, f"--- File: {shown} ---\n", _text_of(path, most_bytes))


def _text_of(path: Path, most_bytes: int) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not a file", "name a file of text")
        if path.stat().st_size > most_bytes:
            raise UsageError(f"{path} is too long for the context", "name a shorter file")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "check its path") from None
    if b"\0" in data:
        raise UsageError(f"{path} is not text", "name a file of text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(
            f"{path} is not UTF-8", f"convert it first, such as: iconv -f LATIN1 -t UTF-8 {path}"
        ) from None
