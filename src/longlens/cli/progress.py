"""A progress bar for prefill: tokens, rate and time to go. Only a terminal sees it."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _TokenRate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Tokens a second so far."""
        return Text(f"{task.speed:.0f} tok/s" if task.speed else "")


class PrefillProgress:
    """Shows how much of a prompt is read. Use in a `with` block; the first token of the answer ends it."""

    def __init__(self) -> None:
        """Draw on stderr, if that is a terminal."""
        self._progress = Progress(
            TextColumn("reading"),
            BarColumn(),
            MofNCompleteColumn(),
            _TokenRate(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> PrefillProgress:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def update(self, done: int, total: int) -> None:
        """Take the engine's report."""
        if self._task is None:
            self._task = self._progress.add_task("", total=total)
        self._progress.update(self._task, completed=done)

    def stop(self) -> None:
        """Remove the bar; a second call does nothing."""
        self._progress.stop()
