"""Options of every command that runs a model, in longlens' spelling and in llama-cli's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longlens.errors import UsageError
from longlens.plan.plan import ComputeElement

if TYPE_CHECKING:  # kernels load torch, and a command's help is to start without it
    from longlens.kernels.choose import KernelWish

Decorated = Callable[..., Any]
_ELEMENTS = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class ModelWishes:
    """What the command line says about how a model is to be run; None leaves it to the plan."""

    model: str
    device: str | None
    gpu_layers: int | None
    context: int | None
    threads: int | None
    dtype: ComputeElement | None
    cache_type: ComputeElement | None
    flash_attn: str
    chunk_tokens: int | None
    is_strict: bool
    kernels: KernelWish | None = None
    cache_dir: Path | None = None
    keeps_nothing: bool = False


@dataclass(frozen=True)
class SamplingWishes:
    """What the command line says about sampling; None leaves it to the checkpoint's defaults."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: tuple[str, ...]
    seed: int | None


_MODEL = "a .gguf file, a .safetensors file, a folder, org/repo:quant, or pocket"
_REQUIRED_MODEL = click.option("-m", "--model", required=True, metavar="MODEL", help=_MODEL)
_MODEL_OR_POCKET = click.option("-m", "--model", default="pocket", show_default=True, metavar="MODEL", help=_MODEL)
_MODEL_OPTIONS = (
    click.option("--device", metavar="auto|cpu|cuda[:N]", help="where to compute  [auto]"),
    click.option(
        "-ngl", "--gpu-layers", "--n-gpu-layers", "gpu_layers", type=int, metavar="N", help="layers on the GPU"
    ),
    click.option("-c", "--context", "--ctx-size", "context", type=int, metavar="TOKENS", help="longest sequence"),
    click.option("-t", "--threads", "threads", type=int, metavar="N", help="threads for arithmetic"),
    click.option("--dtype", type=click.Choice(_ELEMENTS), help="weights and activations"),
    click.option("-ctk", "--cache-type-k", "cache_type", type=click.Choice(_ELEMENTS), help="cached rows"),
    click.option(
        *("-fa", "--flash-attn", "flash_attn"),
        type=click.Choice(("on", "off", "auto")),
        is_flag=False,
        flag_value="on",
        default="auto",
        help="on: longlens has no other attention",
    ),
    click.option("--chunk-tokens", type=int, metavar="N", help="prefill chunks end at multiples of it"),
    click.option("--kernels", type=click.Choice(("auto", "native", "plain")), help="C++, or torch alone  [auto]"),
    click.option("--strict", "is_strict", is_flag=True, help="unknown keys and tensors of the file are errors"),
    click.option(
        "--cache-dir", type=click.Path(file_okay=False, path_type=Path), help="where packs and records of runs are kept"
    ),
    click.option("--no-store", "keeps_nothing", is_flag=True, help="keep nothing on disk"),
)

_SAMPLING_OPTIONS = (
    click.option("-n", "--max-tokens", "--predict", "--n-predict", "max_tokens", type=int, metavar="N"),
    click.option("--temp", "--temperature", "temperature", type=float, metavar="T", help="0 is greedy"),
    click.option("--top-k", "top_k", type=int, metavar="K"),
    click.option("--top-p", "top_p", type=float, metavar="P"),
    click.option("--min-p", "min_p", type=float, metavar="P"),
    click.option("--repeat-penalty", "--repetition-penalty", "repetition_penalty", type=float, metavar="X"),
    click.option("--frequency-penalty", "frequency_penalty", type=float, metavar="X"),
    click.option("--presence-penalty", "presence_penalty", type=float, metavar="X"),
    click.option("-l", "--logit-bias", "logit_bias", multiple=True, metavar="ID+BIAS", help="such as 15043-1.5"),
    click.option("-s", "--seed", "seed", type=int, metavar="N", help="same seed, same tokens; -1 draws one"),
)


def model_options(command: Decorated) -> Decorated:
    """Give a command the options that say how a model is run; it receives them as `model_wishes`."""
    return _with_model_options(command, _REQUIRED_MODEL)


def model_options_or_pocket(command: Decorated) -> Decorated:
    """The same for a command that runs the embedded model if none is named."""
    return _with_model_options(command, _MODEL_OR_POCKET)


def _with_model_options(command: Decorated, model: Callable[[Decorated], Decorated]) -> Decorated:
    def bundled(**values: object) -> object:
        names = ModelWishes.__dataclass_fields__
        wishes = ModelWishes(**{name: values.pop(name) for name in names})  # type: ignore[arg-type]
        return command(model_wishes=_checked(wishes), **values)

    return _with_options(bundled, command, (model, *_MODEL_OPTIONS))


def sampling_options(command: Decorated) -> Decorated:
    """Give a command the options of sampling; it receives them as `sampling_wishes`."""

    def bundled(**values: object) -> object:
        names = SamplingWishes.__dataclass_fields__
        return command(
            sampling_wishes=SamplingWishes(**{name: values.pop(name) for name in names}),  # type: ignore[arg-type]
            **values,
        )

    return _with_options(bundled, command, _SAMPLING_OPTIONS)


def _with_options(
    bundled: Decorated, command: Decorated, options: tuple[Callable[[Decorated], Decorated], ...]
) -> Decorated:
    bundled.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
    for option in reversed(options):
        bundled = option(bundled)
    return bundled


def _checked(wishes: ModelWishes) -> ModelWishes:
    if wishes.flash_attn == "off":
        raise UsageError(
            "--flash-attn off asks for an attention that longlens does not have",
            "leave it out: attention never builds a full score matrix, and gathers rows on long contexts",
        )
    return wishes


def read_logit_bias(pairs: tuple[str, ...]) -> dict[int, float]:
    """Read `ID+BIAS` and `ID-BIAS`, llama-cli's spelling; `ID-inf` forbids a token.

    Raises:
        UsageError: a pair in another form.
    """
    biases = {}
    for pair in pairs:
        at = max(pair.find("+"), pair.find("-"))
        try:
            biases[int(pair[:at])] = float(pair[at:])
        except ValueError:
            raise UsageError(f"--logit-bias {pair!r} is not ID+BIAS", "write 15043+1 or 15043-inf") from None
    return biases
