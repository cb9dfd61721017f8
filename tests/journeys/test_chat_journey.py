"""A chat at a terminal: what the user types on the left, what the terminal shows on the right."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import TINY, environment

# What a user of llama-cli would type, with the fixture and its context.
COMMAND = [
    *("chat", "-m", TINY, "-p", "You are a senior system architect. Analyze the provided codebase files."),
    *("-c", "4096", "-n", "1024", "--flash-attn", "--threads", "16", "-t", "16", "-i"),
]
# Without its stop tokens the model goes on until somebody stops it.
ENDLESS = ("-l", "313-inf", "-l", "320-inf", "-l", "322-inf", "-n", "-1")
DIM = "\x1b\\[2m"
ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
# The child opens the terminal as its own, so that Ctrl-C becomes a signal.
_LAUNCHER = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, '-m', 'longlens', *sys.argv[1:]])"
)


class Terminal:
    """A pseudo-terminal with a chat in it. Its stdout is a pipe if `splits_stdout`, so that the answer can be told."""

    def __init__(self, *words: str, splits_stdout: bool = False) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *words],
            stdin=slave,
            stdout=subprocess.PIPE if splits_stdout else slave,
            stderr=slave,
            start_new_session=True,
            env=environment() | {"TERM": "xterm-256color"},
        )
        os.close(slave)
        self.seen = ""
        self._read_to = 0

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """Read until the screen shows a pattern after the last one that was waited for."""
        deadline = time.monotonic() + timeout
        while True:
            found = re.compile(pattern).search(self.seen, self._read_to)
            if found is not None:
                self._read_to = found.end()
                return found
            if not self._read(deadline):
                pytest.fail(f"no {pattern!r} in {self.seen[self._read_to :]!r}")

    def wait_for_prompt(self) -> None:
        """Wait until the line editor has the terminal: it asks for marked pastes, and shows its prompt."""
        self.wait_for(r"(?s)\x1b\[\?2004h.*?>.*?\x1b\[\?25h")

    def leave(self, timeout: float = 30) -> int:
        """Read what is left and return the exit code."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        return self.process.wait(timeout)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self._master)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says so when the last one has closed the terminal
            return False
        if b"\x1b[6n" in data:  # where is the cursor? A terminal answers.
            os.write(self._master, b"\x1b[50;1R")
        self.seen += data.decode("utf-8", "replace")
        return bool(data)


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def begin(opened: list[Terminal], *words: str, splits_stdout: bool = False) -> Terminal:
    terminal = Terminal(*COMMAND, *words, splits_stdout=splits_stdout)
    opened.append(terminal)
    terminal.wait_for("/help lists the commands")
    terminal.wait_for_prompt()
    return terminal


def usage(terminal: Terminal) -> tuple[int, int, int]:
    """Prompt, cached and read tokens of the next answer's last line."""
    line = terminal.wait_for(r"prompt (\d+) tokens, (\d+) cached, (\d+) read")
    terminal.wait_for_prompt()
    return int(line[1]), int(line[2]), int(line[3])


def test_files_are_read_answers_repeated_and_turns_dropped_without_reading_twice(
    opened: list[Terminal], tmp_path: Path
) -> None:
    source = tmp_path / "two words.py"
    source.write_text("def main():\n    return 1\n")
    terminal = begin(opened, "-n", "4")
    terminal.type("hello" + ENTER)
    prompt, cached, read = usage(terminal)
    assert (cached, read) == (0, prompt)

    terminal.type(f"/read {source}" + ENTER)
    added = int(terminal.wait_for(r"(\d+) tokens go before the next message")[1])
    terminal.wait_for_prompt()
    terminal.type("what does it do?" + ENTER)
    with_file, cached, read = usage(terminal)
    assert cached >= prompt
    assert read == with_file - cached
    assert read > added

    terminal.type("/regen" + ENTER)
    assert usage(terminal) == (with_file, with_file - 1, 1)

    terminal.type("/rewind" + ENTER)
    terminal.wait_for("dropped 1 turns, 1 are left")
    terminal.wait_for_prompt()
    terminal.type("and now?" + ENTER)
    _, cached, _ = usage(terminal)
    assert cached >= prompt

    terminal.type("/stats" + ENTER)
    terminal.wait_for(r"conversation: 2 turns, 5 messages")
    terminal.wait_for(r"all 4 answers: \d+ tokens read")
    terminal.wait_for(r"of 4096 tokens taken, \d+ left")
    terminal.wait_for_prompt()
    terminal.type("/exit" + ENTER)
    assert terminal.leave() == 0


def test_places_names_the_lines_of_a_file_that_the_model_looked_at(opened: list[Terminal], tmp_path: Path) -> None:
    source = tmp_path / "table.py"
    source.write_text("\n".join(f"def fold_{number}(first):\n    return first + {number}\n" for number in range(45)))
    terminal = Terminal("chat", "-m", "pocket", "-c", "4096", "-n", "24", "--temp", "0")
    opened.append(terminal)
    terminal.wait_for_prompt()
    terminal.type("/places" + ENTER)
    terminal.wait_for("no places yet: there is no answer")
    terminal.wait_for_prompt()
    terminal.type(f"/read {source}" + ENTER)
    assert int(terminal.wait_for(r"(\d+) tokens go before the next message")[1]) > 512
    terminal.wait_for_prompt()
    terminal.type("Where is `fold_7` defined?" + ENTER)
    usage(terminal)
    terminal.type("/places" + ENTER)
    terminal.wait_for("looked at:")
    place = terminal.wait_for(re.escape(str(source)) + r":(\d+)(?:-(\d+))? +\d+\.\d%")
    assert 1 <= int(place[1]) <= int(place[2] or place[1]) <= 134
    terminal.wait_for(r"\d+\.\d% of all looks went to the files, which are \d+\.\d% of the prompt")
    terminal.wait_for_prompt()
    terminal.type("/clear" + ENTER)
    terminal.wait_for("dropped 1 turns")
    terminal.wait_for_prompt()
    terminal.type("/places" + ENTER)
    terminal.wait_for("no places yet: there is no answer")
    terminal.wait_for_prompt()
    terminal.type(CTRL_D)
    assert terminal.leave() == 0


def test_ctrl_c_stops_an_answer_and_what_was_said_stays(opened: list[Terminal]) -> None:
    terminal = begin(opened, *ENDLESS)
    terminal.type("hello" + ENTER)
    terminal.wait_for(DIM)
    terminal.type(CTRL_C)
    terminal.wait_for("cancelled")
    terminal.wait_for("what was said stays in the conversation")
    terminal.wait_for_prompt()
    terminal.type("/stats" + ENTER)
    terminal.wait_for("1 turns, 3 messages")
    terminal.wait_for_prompt()
    terminal.type(CTRL_D)
    assert terminal.leave() == 0


def test_ctrl_c_in_prefill_stops_at_the_last_chunk_and_regen_goes_on(opened: list[Terminal], tmp_path: Path) -> None:
    source = tmp_path / "long.txt"
    source.write_text("def main(): return 1\n" * 100)
    terminal = begin(opened, "--chunk-tokens", "8", "-n", "2")
    terminal.type(f"/add {source}" + ENTER)
    terminal.wait_for("go before the next message")
    terminal.wait_for_prompt()
    terminal.type("go" + ENTER)
    terminal.wait_for("reading")
    terminal.wait_for("tok/s")
    terminal.type(CTRL_C)
    stopped = terminal.wait_for(r"stopped: (\d+) of (\d+) tokens are read and kept. /regen goes on")
    kept, total = int(stopped[1]), int(stopped[2])
    assert 0 < kept < total
    assert kept % 8 == 0
    terminal.wait_for_prompt()
    terminal.type("/regen" + ENTER)
    assert usage(terminal) == (total, 0, total), "one turn, each token read once"
    terminal.type(CTRL_D)
    assert terminal.leave() == 0


def test_a_second_ctrl_c_in_a_row_leaves_with_130(opened: list[Terminal]) -> None:
    terminal = begin(opened, *ENDLESS)
    terminal.type(CTRL_C)
    terminal.wait_for("Ctrl-C once more leaves")
    terminal.wait_for_prompt()
    terminal.type("/places" + ENTER)
    terminal.wait_for("no places yet: there is no answer")
    terminal.wait_for_prompt()
    terminal.type("hello" + ENTER)
    terminal.wait_for(DIM)
    terminal.type(CTRL_C)
    terminal.wait_for("stopped: ")
    terminal.wait_for_prompt()
    terminal.type(CTRL_C)
    assert terminal.leave() == 130
    assert "Traceback" not in terminal.seen


def test_the_answer_alone_is_on_stdout(opened: list[Terminal]) -> None:
    no_thinking = '{"enable_thinking": false}'
    terminal = begin(opened, "-n", "4", "--chat-template-kwargs", no_thinking, splits_stdout=True)
    terminal.type('"""' + ENTER)
    terminal.wait_for(r"(?s)2004h.*?\|.*?25h")
    terminal.type("two" + ENTER)
    terminal.type('lines"""' + ENTER)
    usage(terminal)
    terminal.type("/help" + ENTER)
    terminal.wait_for("show this")
    terminal.wait_for_prompt()
    terminal.type(CTRL_D)
    assert terminal.leave() == 0
    assert terminal.process.stdout is not None
    answer = terminal.process.stdout.read().decode("utf-8", "replace")
    assert len(answer.strip()) > 0
    assert answer.count("\n") >= 1
    for word in ("model:", "prompt", "/help", "two"):
        assert word not in answer


def test_reasoning_is_dim_on_the_terminal(opened: list[Terminal]) -> None:
    terminal = begin(opened, "-n", "4")
    terminal.type("hello" + ENTER)
    usage(terminal)
    assert re.search(DIM, terminal.seen)
    terminal.type(CTRL_D)
    assert terminal.leave() == 0


def test_a_full_context_is_a_fault_and_the_conversation_goes_on(opened: list[Terminal]) -> None:
    terminal = begin(opened, *ENDLESS, "-c", "128", "-n", "1024")
    terminal.type("hello" + ENTER)
    terminal.wait_for("the context of 128 tokens is full; the conversation is kept")
    terminal.wait_for("hint: /rewind")
    terminal.wait_for_prompt()
    terminal.type("/rewind" + ENTER)
    terminal.wait_for("0 are left")
    terminal.wait_for_prompt()
    terminal.type("x" * 300 + ENTER)
    terminal.wait_for("leaves no room for an answer")
    terminal.wait_for(r"hint: .*--context \d+")
    terminal.wait_for_prompt()
    terminal.type(CTRL_D)
    assert terminal.leave() == 0


def test_sigterm_ends_the_chat_with_143(opened: list[Terminal]) -> None:
    terminal = begin(opened)
    terminal.process.terminate()
    assert terminal.leave() == 143
    assert "Traceback" not in terminal.seen
