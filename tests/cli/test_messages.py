from __future__ import annotations

import pytest

from longlens.cli.messages import print_fault, print_note, print_warning


def test_an_error_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_fault("it broke", "mend it")
    assert capsys.readouterr().err == "it broke\nhint: mend it\n"


def test_names_out_of_a_file_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_warning("unknown tensor \x1b[31mred\nline")
    assert capsys.readouterr().err == "warning: unknown tensor \\x1b[31mred\\nline\n"


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_note("threads: 2")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "threads: 2\n")
