"""Finds the command, runs it, and turns every error into two lines and an exit code.

Exit codes: 0 done, 1 a fault with a mend, 2 wrong usage, 130 and 143 after SIGINT and SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

import click

from longlens import __version__
from longlens.cli.commands import COMMANDS, NOT_BUILT_YET, load_command
from longlens.cli.messages import print_fault
from longlens.errors import CancelledError, LonglensError, UsageError

EXIT_FAULT, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after the program's name; those of this process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Threads that wait are to sleep: with one core taken away, libgomp's spinning costs a factor of 20 (see
    # docs/decisions). It reads this when torch is imported, which no command has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return _dispatch(words)
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "longlens"
        print_fault(error.format_message().rstrip("."), f"see {command} --help")
        return EXIT_USAGE
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except UsageError as error:
        print_fault(error.fault, error.mend)
        return EXIT_USAGE
    except CancelledError as error:
        print_fault(error.fault, error.mend)
        return EXIT_INTERRUPTED
    except LonglensError as error:
        print_fault(error.fault, error.mend)
        return EXIT_FAULT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has gone; nothing more can be said there, not even by the interpreter at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_overview())
        return 0 if words else EXIT_USAGE
    if words[0] in ("-V", "--version"):
        sys.stdout.write(f"longlens {__version__}\n")
        return 0
    name = words[0]
    if name in NOT_BUILT_YET:
        raise UsageError(f"longlens {name} is not built yet", f"what works today: {', '.join(COMMANDS)}")
    if name not in COMMANDS:
        close = next(iter(get_close_matches(name, COMMANDS, n=1)), None)
        mend = f"did you mean longlens {close}?" if close else f"commands: {', '.join(COMMANDS)}"
        raise UsageError(f"{name!r} is not a command of longlens", mend)
    command: click.Command = load_command(name)
    code = command.main(words[1:], prog_name=f"longlens {name}", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items()]
    return "\n".join(
        ["usage: longlens COMMAND [OPTIONS]", "", *lines, "", "longlens COMMAND --help tells a command's options.", ""]
    )
