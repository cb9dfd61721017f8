"""Ctrl-C and SIGTERM: the first asks the work to stop, the second stops it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from longlens.engine.sequence import CancelFlag

EXIT_CODE_BASE = 128


class Interruption:
    """Which signal came, if any, and the flag it raised."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self.flag = CancelFlag()
        self.signal_number: int | None = None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, 0 without either."""
        return 0 if self.signal_number is None else EXIT_CODE_BASE + self.signal_number

    def take(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: raise the flag, and let the next one end the process."""
        self.signal_number = number
        self.flag.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Catch SIGINT and SIGTERM within the block."""
    interruption = Interruption()
    before = {number: signal.signal(number, interruption.take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
