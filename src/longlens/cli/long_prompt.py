"""Asks before a very long prompt is read: what it will take, and whether to go on."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from longlens.chat.opening import OpenedModel
from longlens.cli.messages import print_note, print_warning
from longlens.errors import FormatError, UsageError
from longlens.plan.cost import is_measured, predict
from longlens.plan.profile import MachineProfile, profile_path, read_profile
from longlens.plan.table import format_seconds

# Above it even large machines read for minutes, and nobody should find out by waiting.
LONG_PROMPT_TOKENS = 500_000


def agrees_to_wait(opened: OpenedModel, prompt_tokens: int, cache: Path, *, says_yes: bool) -> bool:
    """Say how long reading a prompt will take, and ask whether to; short prompts are read without a question.

    Args:
        opened: the model and its plan.
        prompt_tokens: of the whole prompt.
        cache: folder where this machine's profile is kept.
        says_yes: `--yes`: the time is told, nothing is asked.

    Raises:
        UsageError: nobody can be asked.
    """
    if prompt_tokens <= LONG_PROMPT_TOKENS:
        return True
    wait = _predicted_wait(opened, prompt_tokens, cache)
    print_note(f"the prompt has {prompt_tokens:,} tokens; the first token of the answer: {wait}")
    if says_yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"a prompt of {prompt_tokens:,} tokens is read only when somebody agrees, and nobody can be asked here",
            "add --yes, or ask about a smaller folder",
        )
    return _confirm("Read it?")


def _confirm(question: str) -> bool:
    """Ask on stderr. Ctrl-C ends the program here, since no work has begun that could be asked to stop."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, default=False, err=True)
    finally:
        signal.signal(signal.SIGINT, before)


def _predicted_wait(opened: OpenedModel, prompt_tokens: int, cache: Path) -> str:
    profile = _profile(profile_path(cache, opened.plan.device))
    if profile is None:
        return "not known, since this machine was not measured (longlens plan --probe)"
    if not is_measured(opened.plan, profile):
        return "not known, since times of the C++ kernels are not predicted yet"
    seconds = predict(opened.config, opened.plan, profile, prompt_tokens=prompt_tokens).ttft_cold_s
    return f"after about {format_seconds(seconds)}, as predicted from the profile of {profile.date}"


def _profile(path: Path) -> MachineProfile | None:
    if not path.is_file():
        return None
    try:
        return read_profile(path)
    except FormatError as error:
        # A damaged profile must not keep anyone from reading; the time is then not known.
        print_warning(f"{error.fault}; {error.mend}")
        return None
