"""From the command line's wishes to an opened model, its sampling and its start log."""

from __future__ import annotations

import json

from longlens.chat.opening import OpenedModel, Opening
from longlens.cli.messages import print_note, print_warning
from longlens.cli.model_options import ModelWishes, SamplingWishes, read_logit_bias
from longlens.cli.start_log import pressure_line, start_lines
from longlens.engine.sampling import SamplingParams
from longlens.errors import UsageError
from longlens.machine import memory_pressure
from longlens.plan.planner import Wishes


def opening_of(wishes: ModelWishes) -> Opening:
    """What the command line says about how the model is to be opened."""
    device = wishes.device or ("cpu" if wishes.gpu_layers == 0 else "auto")
    return Opening(
        reference=wishes.model,
        device=device,
        wishes=Wishes(
            context=wishes.context or None,  # llama-cli's 0 is "the model's own"
            compute_element=wishes.dtype,
            cache_element=wishes.cache_type,
            num_threads=wishes.threads,
            chunk_tokens=wishes.chunk_tokens,
        ),
        is_strict=wishes.is_strict,
        kernels=wishes.kernels or "auto",
    )


def sampling_params(wishes: SamplingWishes, opened: OpenedModel) -> SamplingParams:
    """What the command line says, and the checkpoint's defaults for the rest.

    Raises:
        UsageError: a value outside of its range.
    """
    defaults = opened.sampling_defaults

    def chosen(wish: float | None, default: float) -> float:
        return default if wish is None else wish

    return SamplingParams(
        max_tokens=None if wishes.max_tokens == -1 else wishes.max_tokens,  # llama-cli's -1 is "no limit"
        temperature=chosen(wishes.temperature, defaults.temperature),
        top_k=int(chosen(wishes.top_k, defaults.top_k)),
        top_p=chosen(wishes.top_p, defaults.top_p),
        min_p=chosen(wishes.min_p, defaults.min_p),
        repetition_penalty=chosen(wishes.repetition_penalty, defaults.repetition_penalty),
        frequency_penalty=chosen(wishes.frequency_penalty, 0.0),
        presence_penalty=chosen(wishes.presence_penalty, 0.0),
        logit_bias=read_logit_bias(wishes.logit_bias),
        seed=None if wishes.seed == -1 else wishes.seed,
    )


def read_template_options(text: str | None) -> dict[str, object]:
    """Read what `--chat-template-kwargs` gave; none is no options.

    Raises:
        UsageError: it is not the JSON of an object.
    """
    try:
        parsed = json.loads(text or "{}")
    except ValueError as error:
        raise UsageError(f"--chat-template-kwargs is not JSON: {error}", 'write {"enable_thinking": false}') from None
    if not isinstance(parsed, dict):
        raise UsageError("--chat-template-kwargs is not an object", 'write {"enable_thinking": false}')
    return parsed


def print_pressure(moment: str, *, is_quiet: bool) -> None:
    """Say how much of the process is swapped out, as a warning if anything is, and in the log unless it is quiet."""
    pressure = memory_pressure()
    if pressure.vm_swap_bytes:
        print_warning(f"{pressure.vm_swap_bytes} bytes of this process are swapped out; a shorter --context helps")
    if not is_quiet:
        print_note(pressure_line(moment, pressure))


def print_start(opened: OpenedModel, wishes: ModelWishes, *, is_quiet: bool) -> None:
    """Print the checkpoint's warnings and, unless it is quiet, what is about to run."""
    for warning in opened.warnings:
        print_warning(warning)
    if is_quiet:
        return
    for line in start_lines(opened, wishes):
        print_note(line)
