"""A plan in lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from longlens.plan.file_types import WEIGHT_CLASSES
from longlens.plan.hardware_records import Hardware
from longlens.plan.plan import Plan
from longlens.plan.timing import format_wait
from longlens.units import format_bytes

_TIER_TITLES = {"gpu": "GPU memory", "ram": "RAM", "disk": "disk"}


def plan_lines(plan: Plan, hardware: Hardware) -> Iterator[str]:
    """Describe a plan: what, where, how long, and whether it runs."""
    sequences = f"{plan.num_sequences} sequences of " if plan.num_sequences > 1 else ""
    yield f"{plan.model} on {hardware.title}: {sequences}{plan.context:,} tokens"
    yield f"weights   {_size(plan.weights_bytes)}  {_weights(plan)}"
    yield from _classes(plan)
    rows = plan.kv_bytes - plan.index_bytes
    keys = f", index keys {_size(plan.index_bytes)}" if plan.index_bytes else ""
    yield (
        f"cache     {_size(plan.kv_bytes)}  {plan.kv_bytes_per_token:,} B a token as {plan.cache_format}: "
        f"rows {_size(rows)}{keys}"
    )
    yield f"scratch   {_size(plan.scratch_bytes)}  a chunk of {plan.chunk_tokens:,} tokens"
    yield f"runtime   {_size(plan.runtime_bytes)}  tokenizer, records, buffers"
    yield f"sum       {_size(plan.total_bytes)}  and {_size(plan.safety_bytes)} kept free"
    for tier in hardware.tiers:
        if used := plan.tiers.get(tier.name, 0):
            yield f"{_TIER_TITLES[tier.name]:<9} {_size(used)} of {_size(tier.free_bytes)} free"
    yield from (f"moved     {line}" for line in plan.moves)
    yield from (f"fault     {fault}" for fault in hardware.faults)
    yield from _times(plan)
    yield from (f"not yet   {reason}" for reason in plan.not_built)
    yield "runs      " + ("yes" if plan.runs else "not yet: load refuses it")


def prediction_line(plan: Plan) -> str:
    """The plan's prediction in one line, for the start log."""
    memory = f"plan: {format_bytes(plan.total_bytes)} of memory at most"
    cold, rate = plan.ttft_s["cold"], plan.decode_tokens_per_s
    if cold is None or rate is None:
        return f"{memory}; time: {plan.time_note or 'not predicted'}"
    return f"{memory}; a full context is read in {format_wait(cold)}, then {rate:.1f} tok/s"


def _size(num_bytes: int) -> str:
    """`48GiB` as it is typed: no blank, and no decimal where there is none."""
    return format_bytes(num_bytes).replace(".0 ", "").replace(" ", "")


def _weights(plan: Plan) -> str:
    if plan.weights_form == "expanded":
        return f"expanded to {plan.compute_element}"
    rest = f"; the rest as {plan.compute_element}" if plan.kernels == "native" else ""
    return f"packed, {plan.file_type}{rest}"


def _classes(plan: Plan) -> Iterator[str]:
    for component in plan.components:
        if component.name in WEIGHT_CLASSES and component.num_bytes:
            where = _TIER_TITLES[component.tier]
            yield f"  {component.name:<16}{_size(component.num_bytes):>10}  {where}"


def _times(plan: Plan) -> Iterator[str]:
    cold, memory, disk = (plan.ttft_s[kind] for kind in ("cold", "memory", "disk"))
    if cold is None or memory is None or plan.decode_tokens_per_s is None:
        yield f"time      {plan.time_note or 'not predicted'}"
        return
    stored = "" if disk is None else f", from disk {format_wait(disk)}"
    yield (
        f"time      first token of a full context cold {format_wait(cold)}, from memory "
        f"{format_wait(memory)}{stored}; then {plan.decode_tokens_per_s:.1f} tok/s"
    )
    yield f"          {plan.time_note}"
