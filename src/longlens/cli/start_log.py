"""The start log: what is about to run, in lines that can be believed."""

from __future__ import annotations

from collections.abc import Iterator

from longlens.chat.opening import OpenedModel
from longlens.chat.request import Finished
from longlens.cli.data_folder import cache_folder
from longlens.cli.model_options import ModelWishes
from longlens.cli.plan_report import prediction_line
from longlens.machine import MemoryPressure
from longlens.plan.plan import Plan
from longlens.plan.timing import with_kept_profile
from longlens.units import format_bytes


def start_lines(opened: OpenedModel, wishes: ModelWishes) -> Iterator[str]:
    """Describe an opened model, a line at a time."""
    plan = opened.plan
    yield f"model: {opened.name}, architecture {opened.config.architecture}, {_layers(opened)}"
    yield f"flash-attn: on ({_attention(opened)})"
    yield f"kernels: {opened.choice.reason}; quantised types with kernels of their own: {_types(opened)}"
    latents = plan.kv_bytes - plan.index_bytes
    kind = "latents" if opened.config.indexer is not None else "keys and values"
    yield (
        f"bytes: weights {format_bytes(plan.weights_bytes)} {_form(plan)}, {kind} {format_bytes(latents)} "
        f"and index keys {format_bytes(plan.index_bytes)} as {plan.cache_element}, scratch up to "
        f"{format_bytes(plan.scratch_bytes)}"
    )
    yield f"context: {plan.context} tokens, prefill chunks of {plan.chunk_tokens}"
    yield prediction_line(with_kept_profile(opened.config, plan, cache_folder(None)))
    yield f"threads: {plan.num_threads}{_threads_note(opened, wishes)}"
    if wishes.gpu_layers and opened.choice.device.type == "cpu":
        yield f"gpu layers: 0 ({wishes.gpu_layers} asked for, no CUDA device is there)"


def pressure_line(moment: str, pressure: MemoryPressure) -> str:
    """Say how much of the process is swapped out, and how often it waited for the disk."""
    swap = "unknown" if pressure.vm_swap_bytes is None else _swap(pressure.vm_swap_bytes)
    faults = "unknown" if pressure.major_faults is None else str(pressure.major_faults)
    return f"swap: {swap}, major faults {faults} ({moment})"


def end_line(finished: Finished) -> str:
    """Say what an answer took."""
    usage, timings = finished.usage, finished.timings
    first = "no token" if timings.ttft_s is None else f"first token after {timings.ttft_s:.2f} s"
    return (
        f"prompt {usage.prompt_tokens} tokens, {usage.cached_tokens} cached, "
        f"{usage.read_tokens} read{_rate(usage.read_tokens, timings.prefill_s)}; {first}; "
        f"answer {usage.completion_tokens} tokens{_rate(usage.completion_tokens, timings.decode_s)}; "
        f"{finished.finish_reason}"
    )


def _rate(tokens: int, seconds: float) -> str:
    return f" at {tokens / seconds:.1f} tok/s" if tokens and seconds > 0 else ""


def _form(plan: Plan) -> str:
    """How weights lie in memory."""
    return (
        f"as {plan.compute_element}" if plan.weights_form == "expanded" else f"packed, others as {plan.compute_element}"
    )


def _types(opened: OpenedModel) -> str:
    return ", ".join(sorted(opened.choice.packed_types)) or "none"


def _layers(opened: OpenedModel) -> str:
    config = opened.config
    if config.indexer is None:
        return f"{config.num_hidden_layers} layers"
    full = len(config.indexer.full_layers)
    return f"{config.num_hidden_layers} layers ({full} full, {config.num_hidden_layers - full} shared)"


def _attention(opened: OpenedModel) -> str:
    threshold = opened.plan.gather_above_tokens
    return "dense, the model has no indexer" if threshold is None else f"gather above {threshold} tokens"


def _threads_note(opened: OpenedModel, wishes: ModelWishes) -> str:
    if wishes.threads is None or wishes.threads <= opened.plan.num_threads:
        return ""
    return f" ({wishes.threads} asked for, {opened.machine.num_threads} cores are there)"


def _swap(num_bytes: int) -> str:
    return "none" if num_bytes == 0 else format_bytes(num_bytes)
