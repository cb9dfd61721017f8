"""`longlens bench attention`: four kinds of attention in one stack of layers, by context."""

from __future__ import annotations

from typing import Any

import click
import torch

from longlens.bench.attention import AttentionBench, measure_attention
from longlens.bench.attention_stack import ATTENTION_KINDS, StackSize
from longlens.bench.figure import Figure
from longlens.bench.record import Record, code_identity, machine_identity, model_identity, now
from longlens.bench.synthetic import synthetic_preset
from longlens.bench.workload import parse_counts
from longlens.cli.bench_output import OutputWishes, kept_words, output_options, take_figures
from longlens.cli.interruption import interruptible
from longlens.kernels.choose import choose_kernels
from longlens.machine import detect_machine

_ELEMENTS = click.Choice(("f32", "f16", "bf16"))


@click.command(
    "attention",
    short_help="measure four kinds of attention by context",
    help="Measure attention alone: GQA 8x128, dense MLA, DSA on every layer, and IndexShare.",
)
@click.option("--geometry", default="mid", show_default=True, metavar="PRESET", help="whose heads and widths")
@click.option("--layers", type=click.IntRange(min=1), default=4, show_default=True, metavar="N")
@click.option("-d", "--contexts", default="8192-65536*2", show_default=True, metavar="LIST", help="cached tokens")
@click.option("--queries", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="tokens a step")
@click.option("--kind", "kinds", type=click.Choice(ATTENTION_KINDS), multiple=True, help="only this one  [all]")
@click.option("--dtype", type=_ELEMENTS, default="f32", show_default=True, help="weights and activations")
@click.option("-ctk", "--cache-type-k", "cache_type", type=_ELEMENTS, default="f32", show_default=True)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@click.option("-t", "--threads", type=click.IntRange(min=1), metavar="N", help="threads for arithmetic")
@output_options
def ATTENTION(output_wishes: OutputWishes, **options: Any) -> int:  # noqa: N802 (a command)
    """Measure every kind at every context."""
    preset = synthetic_preset(options["geometry"])
    contexts = parse_counts(options["contexts"], "--contexts")
    output_wishes.check()
    machine = detect_machine()
    choice = choose_kernels(options["device"])
    identity = machine_identity(machine)
    threads = min(options["threads"] or machine.num_threads, machine.num_threads)
    torch.set_num_threads(threads)
    words = kept_words()
    with interruptible() as interruption:
        bench = AttentionBench(
            StackSize(preset.config, options["layers"]),
            contexts,
            kinds=options["kinds"] or ATTENTION_KINDS,
            queries=options["queries"],
            repetitions=output_wishes.repetitions,
            compute_element=options["dtype"],
            cache_element=options["cache_type"],
            seed=output_wishes.seed,
            cancel=interruption.flag,
            on_step=output_wishes.note,
        )
        settings = {
            **{name: options[name] for name in ("layers", "queries", "dtype", "cache_type")},
            "seed": output_wishes.seed,
            "repetitions": output_wishes.repetitions,
            "device": str(choice.device),
            "threads": threads,
            "kernels": choice.kernels.name,
        }

        def record_of(figures: tuple[Figure, ...]) -> Record:
            return Record(
                code=code_identity(),
                date=now(),
                command=words,
                machine=identity,
                model=model_identity(preset.name, preset.config, {"synthetic": "attention alone"}),
                plan={},
                settings=settings,
                figures=figures,
            )

        available = machine.memory_available_bytes
        if choice.device.type == "cuda":
            available = torch.cuda.mem_get_info(choice.device)[0]
        return take_figures(measure_attention(bench, choice, available), record_of, output_wishes, interruption)
