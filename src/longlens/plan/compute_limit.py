"""The shortest time in which a machine could read a prompt: all operations at its published peak."""

from __future__ import annotations

from longlens.model.config import ModelConfig
from longlens.plan.flops import prefill_flops
from longlens.plan.hardware_records import Hardware, Peaks


def highest_rate(peaks: Peaks) -> float:
    """The highest published rate of a device, whichever width of numbers it is for, operations/s."""
    return max(peaks.bf16_flops, peaks.fp8_flops or 0.0, peaks.int8_ops or 0.0)


def compute_limit_seconds(config: ModelConfig, hardware: Hardware, prompt_tokens: int) -> float | None:
    """Seconds below which no cold reading of a prompt can lie, however good its kernels.

    All devices work all the time at their highest published rate, attention is counted in its cheaper form, nothing is
    waited for. A shorter time to the first token means that rows came out of a cache.

    Returns:
        Seconds; None for a machine without published peaks.
    """
    if hardware.peaks is None:
        return None
    operations = min(prefill_flops(config, prompt_tokens, form=form).total for form in ("absorbed", "expanded"))
    return operations / (highest_rate(hardware.peaks) * max(1, hardware.num_devices))
