from __future__ import annotations

from longlens.plan.advice_for import Place, advice_for
from longlens.plan.advise import Needs
from longlens.plan.hardware import HARDWARE
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.profile import profile_of_hardware

PRIVATE = Needs(is_private=True, context=131_072)
PUBLIC = Needs(is_private=False, context=131_072)


def place(hardware: str, model: str = "glm-5.2") -> Place:
    machine = HARDWARE[hardware]
    return Place(MODEL_PRESETS[model], machine, profile_of_hardware(machine))


def test_private_code_on_a_laptop_starts_a_smaller_model() -> None:
    advice = advice_for(PRIVATE, place("laptop-16"))
    assert advice.recommended.kind == "smaller"
    assert advice.recommended.commands[0].startswith("longlens ask -m pocket -c 131072")


def test_public_code_on_a_laptop_goes_to_the_api() -> None:
    assert advice_for(PUBLIC, place("laptop-16")).recommended.kind == "api"


def test_private_code_on_eight_h200_is_served_by_an_engine_that_exists() -> None:
    advice = advice_for(PRIVATE, place("h200-x8"))
    assert advice.recommended.kind == "several machines"
    assert "--tensor-parallel-size 8" in advice.recommended.commands[0]


def test_a_machine_without_fp8_is_shown_the_node_that_would_do() -> None:
    advice = advice_for(PRIVATE, place("mac-studio-512"))
    several = next(option for option in advice.options if option.kind == "several machines")
    assert several.is_possible
    assert "h200-x8" in several.title


def test_a_model_that_no_engine_serves_says_so() -> None:
    advice = advice_for(PRIVATE, place("rtx-4090", "glm-5.2-64b"))
    several = next(option for option in advice.options if option.kind == "several machines")
    assert not several.is_possible
    assert "no checkpoint" in several.reasons[0]


def test_a_small_model_that_fits_runs_here_and_is_no_alternative_to_itself() -> None:
    advice = advice_for(Needs(is_private=True, context=8192), place("laptop-16", "pocket"))
    assert advice.recommended.kind == "local"
    smaller = next(option for option in advice.options if option.kind == "smaller")
    assert not smaller.title.startswith("pocket")


def test_a_long_context_of_many_users_needs_more_machines() -> None:
    several = [
        next(
            o for o in advice_for(Needs(True, 1_048_576, users=users), place("h200-x8")).options if "several" in o.kind
        )
        for users in (1, 8)
    ]
    assert "pipeline parallel 2" in several[0].reasons[0]
    assert "ray start --head" in several[0].commands[0]
    assert "pipeline parallel 2" not in several[1].reasons[0]
