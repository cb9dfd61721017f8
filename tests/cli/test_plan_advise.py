from __future__ import annotations

import json
import sys

import click
import pytest

from longlens.cli import plan_advise
from longlens.cli.plan_advise import AdviceWishes, advice_lines, advice_options, print_advice
from longlens.errors import UsageError
from longlens.plan.advice_for import Place
from longlens.plan.advise import Advice, Needs, Option
from longlens.plan.hardware import HARDWARE
from longlens.plan.presets import MODEL_PRESETS
from longlens.plan.profile import profile_of_hardware

LAPTOP = Place(MODEL_PRESETS["glm-5.2"], HARDWARE["laptop-16"], profile_of_hardware(HARDWARE["laptop-16"]))
NONE = AdviceWishes(None, None, None, None, None)
PRIVATE = AdviceWishes(True, None, None, None, None)
BEST = Option("local", "the model here", True, 0, ("it fits",), ("run this",))
OTHER = Option("smaller", "a small one", True, 3, ("it is small",), ("or this",))
NEVER = Option("api", "an API", False, 0, ("the code stays",), ("not this",))


def parsed(*words: str) -> AdviceWishes:
    seen: list[AdviceWishes] = []

    def take(advice_wishes: AdviceWishes) -> None:
        seen.append(advice_wishes)

    click.command()(advice_options(take)).main(list(words), standalone_mode=False)
    return seen[0]


def test_options_become_wishes_and_what_is_left_out_is_none() -> None:
    assert parsed() == NONE
    words = ("--public", "--most-ttft", "60", "--budget", "20", "--users", "3", "--machines", "2")
    assert parsed(*words) == AdviceWishes(False, 60.0, 20.0, 3, 2)
    assert parsed("--private").is_private is True


@pytest.mark.parametrize("words", [("--users", "0"), ("--most-ttft", "0"), ("--budget", "-1"), ("--machines", "none")])
def test_values_out_of_range_are_wrong_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        parsed(*words)


def test_the_recommendation_comes_first_with_reasons_and_the_next_command() -> None:
    lines = list(advice_lines(Advice((BEST, OTHER, NEVER))))
    assert lines[:4] == ["recommended: the model here", "  - it fits", "next:", "  run this"]
    assert lines[5:8] == ["2. a small one", "  - it is small", "  or this"]
    assert lines[9:] == ["not possible: an API", "  - the code stays"], "what is impossible has no command"


def test_nothing_possible_says_so_and_why() -> None:
    lines = list(advice_lines(Advice((NEVER,))))
    assert lines == [
        "nothing fits what you ask for; give up some of it",
        "",
        "not possible: an API",
        "  - the code stays",
    ]


def test_without_a_terminal_it_must_be_said_whether_code_may_leave() -> None:
    with pytest.raises(UsageError, match="may leave") as caught:
        print_advice(NONE, LAPTOP)
    assert "--private or --public" in caught.value.mend


def test_private_code_on_a_laptop_starts_a_smaller_model(capsys: pytest.CaptureFixture[str]) -> None:
    print_advice(PRIVATE, LAPTOP)
    out = capsys.readouterr().out
    assert out.startswith("recommended: pocket, a smaller model, on laptop with 16 GB")
    assert 'next:\n  longlens ask -m pocket -c 131072 . "QUESTION"\n' in out
    assert "not possible: GLM-5.2 behind z.ai's API" in out


def test_json_is_one_object_with_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print_advice(PRIVATE, LAPTOP, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["recommended"] == "smaller"
    assert document["options"][0]["commands"] == ['longlens ask -m pocket -c 131072 . "QUESTION"']
    assert len(document["options"]) == 4


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Needs]:
    """A terminal, and what is planned for there."""
    needs: list[Needs] = []

    def remember(wanted: Needs, _: Place) -> Advice:
        needs.append(wanted)
        return Advice((BEST,))

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(plan_advise, "advice_for", remember)
    return needs


def answers(monkeypatch: pytest.MonkeyPatch, *typed: object) -> list[str]:
    questions: list[str] = []
    left = list(typed)

    def answer(text: str, **_: object) -> object:
        questions.append(text)
        return left.pop(0)

    monkeypatch.setattr(click, "confirm", answer)
    monkeypatch.setattr(click, "prompt", answer)
    return questions


def test_at_a_terminal_what_is_missing_is_asked(asked: list[Needs], monkeypatch: pytest.MonkeyPatch) -> None:
    questions = answers(monkeypatch, True, 4096, 2)
    print_advice(NONE, LAPTOP)
    assert questions == ["May the code leave your machines?", "Longest prompt in tokens", "Users at the same time"]
    assert asked == [Needs(is_private=False, context=4096, users=2)]


def test_at_a_terminal_what_was_said_is_not_asked_again(asked: list[Needs], monkeypatch: pytest.MonkeyPatch) -> None:
    questions = answers(monkeypatch)
    print_advice(AdviceWishes(True, 9.0, 8.0, 7, 6), LAPTOP, context=5)
    assert questions == []
    assert asked == [Needs(True, 5, 9.0, 8.0, 7, 6)]


def test_json_asks_nothing_even_at_a_terminal(asked: list[Needs], monkeypatch: pytest.MonkeyPatch) -> None:
    questions = answers(monkeypatch)
    with pytest.raises(UsageError, match="may leave"):
        print_advice(NONE, LAPTOP, as_json=True)
    assert questions == asked == []
