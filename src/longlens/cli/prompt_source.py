"""Where a prompt comes from: the command line, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from longlens.errors import ModelNotFoundError, UsageError


def read_prompt(text: str | None, file: str | None) -> str:
    """Read the prompt.

    Args:
        text: what `-p` gave.
        file: what `-f` gave; "-" is standard input.

    Raises:
        UsageError: neither or both are given, the prompt is empty, or it is not UTF-8.
        ModelNotFoundError: the file is missing or cannot be read.
    """
    if (text is None) == (file is None):
        raise UsageError(
            "a prompt is needed, once", 'give it with -p "…", from a file with -f FILE, or from a pipe with -f -'
        )
    prompt = text if text is not None else _read_file(file or "")
    if not prompt.strip():
        raise UsageError("the prompt is empty", 'write something, for example -p "What is the capital of France?"')
    return prompt


def _read_file(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"the prompt file {file} cannot be read: {error.strerror}", "check its path") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file} is not UTF-8: byte 0x{data[error.start]:02X} at offset {error.start}",
            f"convert it first, for example: iconv -f LATIN1 -t UTF-8 {file}",
        ) from None
