from __future__ import annotations

import pytest

from longlens.cli.progress import PrefillProgress


def test_nothing_is_drawn_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    with PrefillProgress() as progress:
        progress.update(10, 100)
        progress.update(100, 100)
        progress.stop()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
