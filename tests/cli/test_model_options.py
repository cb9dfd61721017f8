from __future__ import annotations

import math

import click
import pytest

from longlens.cli.model_options import ModelWishes, SamplingWishes, model_options, read_logit_bias, sampling_options
from longlens.errors import UsageError


def parse(*words: str) -> tuple[ModelWishes, SamplingWishes]:
    caught: list[tuple[ModelWishes, SamplingWishes]] = []

    @click.command()
    @model_options
    @sampling_options
    def command(model_wishes: ModelWishes, sampling_wishes: SamplingWishes) -> None:
        caught.append((model_wishes, sampling_wishes))

    command.main([*words], standalone_mode=False)
    return caught[0]


def test_what_is_not_said_is_left_to_the_plan_and_the_checkpoint() -> None:
    model, sampling = parse("-m", "x")
    assert (model.context, model.threads, model.dtype, model.device) == (None, None, None, None)
    assert (sampling.temperature, sampling.max_tokens, sampling.seed) == (None, None, None)


def test_flash_attn_takes_a_value_or_none_as_llama_cli_does() -> None:
    model, _ = parse("-m", "x", "--flash-attn", "--threads", "16", "-t", "8")
    assert (model.flash_attn, model.threads) == ("on", 8)
    assert parse("-m", "x", "-fa", "auto")[0].flash_attn == "auto"


def test_flash_attn_off_is_refused() -> None:
    with pytest.raises(UsageError, match="off"):
        parse("-m", "x", "-fa", "off")


def test_one_dash_words_of_llama_cli_are_read_whole() -> None:
    model, sampling = parse("-m", "x", "-ngl", "99", "-ctk", "bf16", "-c", "4096", "-n", "-1")
    assert (model.gpu_layers, model.cache_type, model.context, sampling.max_tokens) == (99, "bf16", 4096, -1)


def test_logit_bias_is_read_in_llama_clis_spelling() -> None:
    assert read_logit_bias(("15043-1.5", "7+2", "9-inf")) == {15043: -1.5, 7: 2.0, 9: -math.inf}
    with pytest.raises(UsageError, match="'x'"):
        read_logit_bias(("x",))
