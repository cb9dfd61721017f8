from __future__ import annotations

import pytest

import longlens
from longlens.cli.model_options import ModelWishes, SamplingWishes
from longlens.cli.opening import opening_of, print_pressure, print_start, read_template_options, sampling_params
from longlens.errors import UsageError
from longlens.machine import MemoryPressure
from tests.cli.terminal import TINY


def model_wishes(**changes: object) -> ModelWishes:
    values: dict[str, object] = dict.fromkeys(ModelWishes.__dataclass_fields__)
    return ModelWishes(**(values | {"model": TINY, "flash_attn": "auto", "is_strict": False} | changes))  # type: ignore[arg-type]


def sampling_wishes(**changes: object) -> SamplingWishes:
    values: dict[str, object] = dict.fromkeys(SamplingWishes.__dataclass_fields__)
    return SamplingWishes(**(values | {"logit_bias": ()} | changes))  # type: ignore[arg-type]


def test_zero_is_llama_clis_word_for_the_models_own() -> None:
    assert opening_of(model_wishes(context=0)).wishes.context is None
    assert opening_of(model_wishes(context=64)).wishes.context == 64
    assert opening_of(model_wishes(gpu_layers=0)).device == "cpu"
    assert opening_of(model_wishes(gpu_layers=9)).device == "auto"
    assert opening_of(model_wishes(gpu_layers=0, device="cuda")).device == "cuda"


def test_what_is_not_wished_for_is_the_checkpoints_default(capsys: pytest.CaptureFixture[str]) -> None:
    with longlens.load(TINY, device="cpu", context=64) as model:
        defaults = model.opened.sampling_defaults
        plain = sampling_params(sampling_wishes(), model.opened)
        wished = sampling_params(sampling_wishes(max_tokens=-1, seed=-1, top_k=3, temperature=0.5), model.opened)
        print_start(model.opened, model_wishes(), is_quiet=True)
        assert capsys.readouterr().err == ""
        print_start(model.opened, model_wishes(), is_quiet=False)
    assert (plain.temperature, plain.top_k, plain.max_tokens) == (defaults.temperature, defaults.top_k, None)
    assert (wished.max_tokens, wished.seed, wished.top_k, wished.temperature) == (None, None, 3, 0.5)
    assert "context: 64 tokens" in capsys.readouterr().err


def test_template_options_are_an_object_or_refused() -> None:
    assert read_template_options(None) == {}
    assert read_template_options('{"a": 1}') == {"a": 1}
    for wrong in ("{", "[]", "1"):
        with pytest.raises(UsageError, match="chat-template-kwargs"):
            read_template_options(wrong)


def test_swap_is_a_warning_even_if_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("longlens.cli.opening.memory_pressure", lambda: MemoryPressure(4096, 2))
    print_pressure("now", is_quiet=True)
    assert capsys.readouterr().err.startswith("warning: 4096 bytes of this process are swapped out")
    monkeypatch.setattr("longlens.cli.opening.memory_pressure", lambda: MemoryPressure(0, 2))
    print_pressure("now", is_quiet=True)
    assert capsys.readouterr().err == ""
    print_pressure("now", is_quiet=False)
    assert capsys.readouterr().err == "swap: none, major faults 2 (now)\n"
