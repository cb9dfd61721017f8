"""`longlens pull`: download a model into the cache that is shared with other programs, or into a folder."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType, TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from longlens.cli.messages import print_fault, print_note
from longlens.errors import CancelledError, UsageError
from longlens.hub.download import Pulled, Wanted, pull
from longlens.hub.known_names import refuse_known_mistake
from longlens.hub.listing import access_of_user
from longlens.hub.reference import HubReference, LocalReference, parse_reference
from longlens.machine import detect_machine
from longlens.units import format_bytes

_EXIT_TERMINATED = 143
_HELP = """Download a model. REFERENCE is org/repo or org/repo:quant; FILE names single files of it.

Files go to the cache that is shared with other programs (HF_HUB_CACHE, HF_HOME), or to --local-dir. What is there is
not downloaded again; what was interrupted goes on where it stopped. The path of the model goes to stdout."""


class _Terminated(BaseException):
    """SIGTERM came."""


@click.command(help=_HELP)
@click.argument("reference", metavar="REFERENCE")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option("--local-dir", type=click.Path(file_okay=False, path_type=Path), help="put the files into this folder")
@click.option("--token", metavar="T", help="for private repositories; HF_TOKEN is safer: other users see options")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def COMMAND(  # noqa: N802  (the name under which every command module offers its command)
    *, reference: str, files: tuple[str, ...], local_dir: Path | None, token: str | None, as_json: bool
) -> int:
    """Download, and print where the model is."""
    wanted = Wanted(_repository(reference, files), files, local_dir)
    refuse_known_mistake(wanted.reference.repository, detect_machine)
    before = signal.signal(signal.SIGTERM, _terminate)
    progress = DownloadProgress()
    try:
        with progress:
            pulled = pull(wanted, access_of_user(token), progress)
    except KeyboardInterrupt:
        raise CancelledError(*progress.interruption()) from None
    except _Terminated:
        print_fault(*progress.interruption())
        return _EXIT_TERMINATED
    finally:
        signal.signal(signal.SIGTERM, before)
    _report(pulled, as_json=as_json)
    return 0


class DownloadProgress:
    """One bar for all files: bytes, rate and time to go, on a terminal; use in a `with` block."""

    def __init__(self) -> None:
        """Draw on stderr, if that is a terminal."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("asking the hub", total=None)
        self._received = 0
        self._total: int | None = None

    def __enter__(self) -> DownloadProgress:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def start(self, num_files: int, total_bytes: int) -> None:
        """Take the number of files and bytes that are to come."""
        self._total = total_bytes
        files = "1 file" if num_files == 1 else f"{num_files} files"
        if num_files:
            print_note(f"downloading {files}, {format_bytes(total_bytes)}")
        self._progress.update(self._task, description="pulling", total=total_bytes)

    def received(self, num_bytes: int) -> None:
        """Take what arrived."""
        self._received += num_bytes
        self._progress.update(self._task, description="pulling", completed=max(0, self._received))

    def checking(self, name: str) -> None:
        """Say that a checksum is computed."""
        self._progress.update(self._task, description=f"checking {name.rsplit('/', 1)[-1]}")

    def interruption(self) -> tuple[str, str]:
        """Fault and mend of a download that was stopped."""
        came = max(0, self._received)
        of = "" if self._total is None else f" of {format_bytes(self._total)}"
        return (
            f"the download was stopped after {format_bytes(came)}{of}",
            "the same command goes on where it stopped",
        )


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _repository(text: str, files: tuple[str, ...]) -> HubReference:
    parsed = parse_reference(text)
    if isinstance(parsed, LocalReference) and text.count("/") == 1 and not text.startswith((".", "/")):
        # A folder that is called like the organisation is here; what is to be pulled is not.
        parsed = parse_reference(f"hf:{text}")
    if not isinstance(parsed, HubReference):
        raise UsageError(f"{text!r} names no repository", "longlens pull org/repo, or longlens pull org/repo:quant")
    if files and parsed.quant is not None:
        raise UsageError(
            f"{text} names a quantisation, and files are named, too", f"leave out :{parsed.quant}, or the files"
        )
    return parsed


def _report(pulled: Pulled, *, as_json: bool) -> None:
    if pulled.note is not None:
        print_note(pulled.note)
    were_here = sum(file.was_here for file in pulled.files)
    print_note(
        f"{len(pulled.files)} files at commit {pulled.listing.commit[:12]}: {were_here} were here, "
        f"{format_bytes(pulled.downloaded_bytes)} downloaded and checked"
    )
    if not as_json:
        sys.stdout.write("".join(f"{entry}\n" for entry in pulled.entries))
        return
    answer = {
        "repository": pulled.listing.repository,
        "commit": pulled.listing.commit,
        "paths": [str(entry) for entry in pulled.entries],
        "downloaded_bytes": pulled.downloaded_bytes,
        "files": [
            {"name": file.name, "path": str(file.path), "bytes": file.num_bytes, "was_here": file.was_here}
            for file in pulled.files
        ],
    }
    json.dump(answer, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")
