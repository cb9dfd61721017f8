"""`longlens plan`: what a model takes in memory and time, on this machine or another, before anything runs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from longlens.cli.commands import load_part
from longlens.cli.data_folder import cache_folder
from longlens.cli.messages import print_note
from longlens.cli.plan_model import PlannedModel, find_model
from longlens.cli.plan_report import plan_lines
from longlens.errors import FormatError, UsageError
from longlens.machine import detect_machine
from longlens.plan.file_types import FILE_TYPES
from longlens.plan.hardware import Hardware, find_hardware, hardware_of
from longlens.plan.packed import has_library
from longlens.plan.planner import CACHE_FORMATS
from longlens.plan.profile import MachineProfile, profile_of_hardware, profile_path, read_profile
from longlens.plan.proposal import Proposal, propose_plan
from longlens.plan.timing import NOT_MEASURED, with_times

_HELP = """Predict what a model takes in memory and time. Nothing is run, and no weights are read.

MODEL is a preset (glm-5.2, pocket, ...), a file or folder, or org/repo[:quant], of which only headers are fetched."""
_AT_LEAST_1 = click.IntRange(min=1)
_WITH_ADVICE = "longlens.plan.advice"


@dataclass(frozen=True)
class _Target:
    """The machine that is planned for, and how fast it is."""

    hardware: Hardware
    profile: MachineProfile | None
    num_threads: int
    note: str


class _PlanCommand(click.Command):
    """Knows the options of the advice only when it is asked for: to load them takes as long as to plan."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look for `--advise` before the options are known."""
        ctx.meta[_WITH_ADVICE] = "--advise" in args or "--help" in args
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options of this call."""
        known = super().get_params(ctx)
        return [*_advising().__click_params__, *known] if ctx.meta.get(_WITH_ADVICE) else known


@click.command(help=_HELP, cls=_PlanCommand)
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("-m", "--model", "model_option", metavar="MODEL", help="the same as MODEL  [pocket]")
@click.option("-c", "--context", "--ctx-size", "context", type=_AT_LEAST_1, metavar="TOKENS", help="longest sequence")
@click.option("--sequences", type=_AT_LEAST_1, default=1, show_default=True, metavar="N", help="of that length at once")
@click.option("-ctk", "--cache-type-k", "cache_type", type=click.Choice(CACHE_FORMATS), help="cached rows")
@click.option("--quant", "file_type", type=click.Choice(FILE_TYPES), help="type of the file")
@click.option("--hardware", "hardware_name", metavar="NAME", help="a machine of the catalogue  [this one]")
@click.option("--device", metavar="cpu|cuda[:N]", help="of this machine  [its first GPU, else cpu]")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option("--table", "table_name", metavar="NAME", help="print flops, kv, hardware, ttft or article")
@click.option("--csv", "as_csv", is_flag=True, help="with --table: comma-separated")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="with --table: draw it (.svg, .png)")
@click.option("--advise", is_flag=True, help="where to run: here, a smaller model, an API, several machines")
@click.option("--score", "shows_score", is_flag=True, help="how far predictions were from what runs took")
@click.option("--probe", is_flag=True, help="measure this machine first, which takes half a minute")
@click.option("--cache-dir", type=click.Path(file_okay=False, path_type=Path), help="where the profile is kept")
def COMMAND(**options: Any) -> int:  # noqa: N802  (the name under which every command module offers its command)
    """Plan, or print a table, the score or advice."""
    named = _named_model(options)
    folder = cache_folder(options["cache_dir"])
    if options["shows_score"]:
        load_part("plan --score")(folder, as_json=options["as_json"])
    elif options["table_name"] is not None:
        form = {"as_json": options["as_json"], "as_csv": options["as_csv"], "plot": options["plot"]}
        load_part("plan --table")(options["table_name"], model=find_model(named).preset if named else None, **form)
    elif options["advise"]:
        _advising()(named=named, folder=folder, **options)
    else:
        _print_plan(find_model(named or "pocket"), _target(options, folder), options)
    return 0


def _named_model(options: dict[str, Any]) -> str | None:
    if options["table_name"] is None and (options["as_csv"] or options["plot"] is not None):
        raise UsageError("--csv and --plot are forms of a table", "add --table NAME")
    if options["model"] is not None and options["model_option"] is not None:
        raise UsageError("plan takes one model", "longlens plan MODEL, or longlens plan -m MODEL")
    named: str | None = options["model"] or options["model_option"]
    return named


def _advising() -> Any:
    """The advice as a function of all options, which knows its own."""

    def advise(advice_wishes: object, named: str | None, folder: Path, **options: Any) -> None:
        target = _target(options, folder)
        place = load_part("plan --advise, place")(
            find_model(named or "glm-5.2").preset, target.hardware, target.profile
        )
        load_part("plan --advise")(advice_wishes, place, context=options["context"], as_json=options["as_json"])

    return load_part("plan --advise, options")(advise)


def _target(options: dict[str, Any], folder: Path) -> _Target:
    name = options["hardware_name"]
    if name is not None:
        if options["probe"] or options["device"] is not None:
            raise UsageError("--probe and --device are for this machine", "leave out --hardware, or them")
        hardware = find_hardware(name)
        profile = None if hardware.peaks is None else profile_of_hardware(hardware)
        return _Target(hardware, profile, 0, "no published peaks of it are known")
    machine = detect_machine()
    device = options["device"] or ("cuda:0" if machine.gpus else "cpu")
    if machine.gpu_fault is not None:
        print_note(f"no GPU is planned for: {machine.gpu_fault}")
    hardware = hardware_of(machine, device, disk=folder)
    if options["probe"]:
        return _Target(hardware, load_part("plan --probe")(device, folder), machine.num_threads, "")
    path = profile_path(folder, device)
    if not path.is_file():
        return _Target(hardware, None, machine.num_threads, NOT_MEASURED)
    try:
        return _Target(hardware, read_profile(path), machine.num_threads, "")
    except FormatError as error:
        return _Target(hardware, None, machine.num_threads, f"{error.fault}: run longlens plan --probe")


def _print_plan(model: PlannedModel, target: _Target, options: dict[str, Any]) -> None:
    proposal = Proposal(
        context=options["context"],
        num_sequences=options["sequences"],
        file_type=options["file_type"],
        stored=model.stored,
        packed=model.packed,
        has_native_kernels=has_library(),
        cache_format=options["cache_type"],
        num_threads=target.num_threads,
    )
    plan = propose_plan(model.config, model.name, target.hardware, proposal)
    plan = with_times(model.config, replace(plan, time_note=target.note), target.profile)
    if options["as_json"]:
        json.dump(plan.as_json(), sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
        return
    if model.preset.note:
        print_note(f"note: {model.preset.note}")
    sys.stdout.write("\n".join(plan_lines(plan, target.hardware)) + "\n")
