"""Reading keys of a configuration one by one, so that what nobody read can be named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longlens.errors import ConfigError

_MISSING = object()
# Far above every released model; a damaged number must not become a list of that length.
MOST_LAYERS = 4096
_MOST_INTEGER = 2**48
# No parameter of a model lies outside; within it, no formula here overflows.
_LEAST_NUMBER, _MOST_NUMBER = 1e-15, 1e15


class KeyReader:
    """Hands out the values of a mapping with their types checked, and remembers which keys were asked for."""

    def __init__(self, values: Mapping[str, object], source: str, prefix: str = "") -> None:
        """Read from `values`; `source` names the file in errors, `prefix` stands before every key."""
        self._values = values
        self._source = source
        self._prefix = prefix
        self._asked: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether the key is present and not null."""
        self._asked.add(self._prefix + key)
        return self._values.get(self._prefix + key) is not None

    def integer(self, key: str, default: int | None = None, *, least: int = 1, most: int = _MOST_INTEGER) -> int:
        """Read a whole number from `least` to `most`."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, value, "a whole number")
        if not least <= value <= most:
            raise self._wrong(key, value, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str, default: float | None = None, *, may_be_zero: bool = False) -> float:
        """Read a number above zero (or zero)."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number")
        if not _LEAST_NUMBER <= value <= _MOST_NUMBER and not (value == 0 and may_be_zero):
            raise self._wrong(key, value, f"a number from {_LEAST_NUMBER} to {_MOST_NUMBER}")
        return float(value)

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Read true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Read one of some words."""
        value = self._get(key, default)
        if value not in allowed:
            raise self._wrong(key, value, " or ".join(repr(word) for word in allowed))
        return str(value)

    def sequence(self, key: str) -> list[object]:
        """Read a list."""
        value = self._get(key, None)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self._wrong(key, value, "a list")
        return list(value)

    def value(self, key: str) -> object:
        """Read anything that is there."""
        return self._get(key, None)

    def section(self, key: str) -> KeyReader:
        """Read a nested mapping, as a reader of its own."""
        value = self._get(key, None)
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "an object")
        return KeyReader(value, f"{self._source}: {self._prefix + key}")

    def unknown(self, ignored: frozenset[str]) -> tuple[str, ...]:
        """Keys (under the prefix) that were never asked for and are not known to be without effect."""
        return tuple(
            key
            for key in self._values
            if key.startswith(self._prefix) and key not in self._asked and key.removeprefix(self._prefix) not in ignored
        )

    def refuse(self, key: str, value: object, expected: str) -> ConfigError:
        """The error for a value that is present and not understood."""
        return self._wrong(key, value, expected)

    def _get(self, key: str, default: object) -> object:
        self._asked.add(self._prefix + key)
        value = self._values.get(self._prefix + key, _MISSING)
        if value is not _MISSING and value is not None:
            return value
        if default is not None:
            return default
        raise ConfigError(
            f"{self._source}: the key {self._prefix + key!r} is missing",
            "the model cannot be computed without it; use a complete checkpoint",
        )

    def _wrong(self, key: str, value: object, expected: str) -> ConfigError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return ConfigError(
            f"{self._source}: {self._prefix + key} is {shown}, expected {expected}",
            "longlens runs only values that it understands; check the checkpoint",
        )
