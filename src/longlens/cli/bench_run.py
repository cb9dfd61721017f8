"""`longlens bench run`: prefill, decode and time to the first token of a model, at depths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from longlens.bench.figure import LEAST_SAMPLES, Figure
from longlens.bench.measure import Measuring, measure
from longlens.bench.process_memory import reset_peak
from longlens.bench.record import Record, code_identity, machine_identity, model_identity, now
from longlens.bench.synthetic import check_fits, synthetic_preset
from longlens.bench.workload import Counts, Label, Workload, needed_context, workloads_of
from longlens.chat.opening import Opening, open_model
from longlens.cli.bench_output import OutputWishes, kept_words, output_options, take_figures
from longlens.cli.interruption import interruptible
from longlens.cli.messages import print_warning
from longlens.cli.model_options import ModelWishes, model_options_or_pocket
from longlens.cli.opening import opening_of, print_start
from longlens.convert.synthetic_file import SYNTHETIC_TYPES, synthetic_tensors, write_synthetic
from longlens.errors import UsageError
from longlens.formats.file_set import find_files
from longlens.hub.reference import parse_reference, resolve_local
from longlens.kernels.choose import choose_kernels
from longlens.machine import detect_machine

_PAGE_TOKENS = 64
_POCKET = "pocket"
_LABELS: Mapping[str, Label] = {"cold": "cold", "warm": "warm", "after-restart": "after restart"}


@dataclass(frozen=True)
class SyntheticWishes:
    """What the command line says about random weights; `preset` is None for a real model."""

    preset: str | None
    file_type: str
    file: Path | None


@click.command(
    "run",
    short_help="measure a model (what bench does without a subcommand)",
    help="Measure a model. Names and lists are llama-bench's: pp512, tg128 @ d4096, -p 128-1024*2.",
)
@model_options_or_pocket
@click.option("-p", "--n-prompt", "prompts", multiple=True, metavar="LIST", help="read N tokens  [512]")
@click.option("-n", "--n-gen", "generates", multiple=True, metavar="LIST", help="write N tokens  [128]")
@click.option("-pg", "pairs", multiple=True, metavar="N,N", help="read and write in one")
@click.option("--ttft", "first_tokens", multiple=True, metavar="LIST", help="time to the first token after N tokens")
@click.option("-d", "--n-depth", "depths", multiple=True, metavar="LIST", help="tokens in the cache before  [0]")
@click.option("--label", type=click.Choice(list(_LABELS)), help="what the cache must be  [cold at depth 0, else warm]")
@click.option("--no-warmup", "is_cold_start", is_flag=True, help="time the first run of each workload too")
@click.option(
    "--synthetic", "preset", metavar="PRESET", help="random weights of a preset instead of a model, such as mid"
)
@click.option(
    *("--synthetic-type", "file_type"),
    type=click.Choice(SYNTHETIC_TYPES, case_sensitive=False),
    default="BF16",
    show_default=True,
    metavar="TYPE",
    help="their type, such as Q4_K_M or IQ2_XS",
)
@click.option("--synthetic-file", type=click.Path(path_type=Path), metavar="FILE", help="only write them, as GGUF")
@output_options
def RUN(model_wishes: ModelWishes, output_wishes: OutputWishes, **options: Any) -> int:  # noqa: N802 (a command)
    """Open the model, measure, report."""
    synthetic = SyntheticWishes(options["preset"], options["file_type"], options["synthetic_file"])
    _check(synthetic, model_wishes, output_wishes)
    if synthetic.file is not None:
        return _write_file(synthetic, output_wishes)
    fields = ("prompts", "generates", "pairs", "first_tokens", "depths")
    workloads = workloads_of(Counts(**{name: options[name] for name in fields}))
    label = _LABELS[options["label"]] if options["label"] else None
    output_wishes.check()
    words = kept_words()
    with interruptible() as interruption:
        measuring = Measuring(
            repetitions=output_wishes.repetitions,
            seed=output_wishes.seed,
            label=label,
            warms_up=not options["is_cold_start"],
            cancel=interruption.flag,
            on_step=output_wishes.note,
        )
        with _opening(synthetic, model_wishes, workloads, output_wishes) as (opening, origin):
            reset_peak()
            opened = open_model(opening)
        print_start(opened, model_wishes, is_quiet=output_wishes.is_quiet)
        name = synthetic.preset or opened.name
        machine = machine_identity(opened.machine)

        def record_of(figures: tuple[Figure, ...]) -> Record:
            settings = {"seed": output_wishes.seed, "repetitions": output_wishes.repetitions}
            return Record(
                code=code_identity(),
                date=now(),
                command=words,
                machine=machine,
                model=model_identity(name, opened.config, origin),
                plan={**opened.plan.as_json(), "model": name},
                settings={**settings, "warms_up": measuring.warms_up, "kernels": opened.choice.kernels.name},
                figures=figures,
            )

        figures = measure(opened.engine, opened.config.vocab_size, workloads, measuring)
        return take_figures(figures, record_of, output_wishes, interruption)


def _check(synthetic: SyntheticWishes, model_wishes: ModelWishes, output_wishes: OutputWishes) -> None:
    if synthetic.preset is not None and model_wishes.model != _POCKET:
        raise UsageError("--synthetic and --model name two models", "leave one of them out")
    if synthetic.file is not None and synthetic.preset is None:
        raise UsageError("--synthetic-file does not say whose weights", "give --synthetic PRESET too")
    if synthetic.file is not None and (synthetic.file.exists() or synthetic.file.suffix != ".gguf"):
        raise UsageError(f"{synthetic.file} exists, or is no .gguf file", "name a new file that ends in .gguf")
    if output_wishes.repetitions < LEAST_SAMPLES:
        print_warning(f"{output_wishes.repetitions} samples are for a quick look; a record needs {LEAST_SAMPLES}")


def _write_file(synthetic: SyntheticWishes, wishes: OutputWishes) -> int:
    if synthetic.preset is None or synthetic.file is None:
        return 0
    preset = synthetic_preset(synthetic.preset)
    num_bytes = write_synthetic(synthetic.file, preset.config, synthetic.file_type, name=preset.name, seed=wishes.seed)
    wishes.note(f"wrote {synthetic.file}: {preset.name}, {synthetic.file_type}, {num_bytes} bytes, seed {wishes.seed}")
    return 0


@contextmanager
def _opening(
    synthetic: SyntheticWishes, model_wishes: ModelWishes, workloads: tuple[Workload, ...], output_wishes: OutputWishes
) -> Iterator[tuple[Opening, dict[str, Any]]]:
    """How to open what is to be measured, and where it comes from.

    Random weights go the way of every model: a file, of which the header is read and the weights are mapped. It is in
    a folder of its own, and gone as soon as the model is open.
    """
    context = model_wishes.context or needed_context(workloads, _PAGE_TOKENS)
    opening = opening_of(replace(model_wishes, context=context))
    if synthetic.preset is None:
        shards = find_files(resolve_local(parse_reference(opening.reference))).shards
        yield opening, {"file_bytes": sum(shard.stat().st_size for shard in shards)}
        return
    preset = synthetic_preset(synthetic.preset)
    device = str(choose_kernels(opening.device).device)
    check_fits(preset, detect_machine(), device, opening.wishes)
    synthetic_tensors(preset.config, synthetic.file_type)
    with TemporaryDirectory(prefix="longlens-") as folder:
        path = Path(folder, f"{preset.name}-{synthetic.file_type}.gguf")
        output_wishes.note(f"making random weights of {preset.name} as {synthetic.file_type}")
        num_bytes = write_synthetic(path, preset.config, synthetic.file_type, name=preset.name, seed=output_wishes.seed)
        origin = {"file_bytes": num_bytes, "synthetic": synthetic.file_type, "seed": output_wishes.seed}
        yield replace(opening, reference=str(path)), origin
