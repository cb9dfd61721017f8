from __future__ import annotations

import pytest

from longlens.chat.sampling_defaults import SamplingDefaults, defaults_of_generation_config, defaults_of_gguf
from longlens.errors import ConfigError


def test_a_checkpoint_that_says_nothing_is_greedy() -> None:
    assert defaults_of_generation_config({"eos_token_id": 1}) == SamplingDefaults()
    assert defaults_of_gguf({}) == SamplingDefaults()
    assert SamplingDefaults().temperature == 0


def test_glm_5_2s_defaults_are_read() -> None:
    defaults = defaults_of_generation_config({"temperature": 1.0, "top_p": 0.95})
    assert (defaults.temperature, defaults.top_p, defaults.top_k) == (1.0, 0.95, 0)
    assert defaults.source == "generation_config.json"


def test_do_sample_false_is_greedy_whatever_else_is_there() -> None:
    assert defaults_of_generation_config({"do_sample": False, "temperature": 0.7}).temperature == 0


def test_a_gguf_can_carry_them_too() -> None:
    defaults = defaults_of_gguf({"general.sampling.temp": 0.6, "general.sampling.top_k": 20})
    assert (defaults.temperature, defaults.top_k) == (0.6, 20)


def test_a_value_that_is_no_number_is_named() -> None:
    with pytest.raises(ConfigError, match="top_p"):
        defaults_of_generation_config({"top_p": "high"})
