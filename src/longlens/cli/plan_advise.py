"""`longlens plan --advise`: asks what is missing if somebody is there, and prints where a model should run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from longlens.errors import UsageError
from longlens.plan.advice_for import Place, advice_for
from longlens.plan.advise import Advice, Needs, Option

Decorated = Callable[..., Any]
DEFAULT_CONTEXT = 131_072


@dataclass(frozen=True)
class AdviceWishes:
    """What the command line says about the advice; None is asked for, or has a default.

    Attributes:
        is_private: the code must not leave the user's machines.
        most_ttft_s: longest wait for the first token of a new prompt.
        budget_dollars: a month, for an API.
        users: at the same time.
        num_machines: machines of the kind that is planned for.
    """

    is_private: bool | None
    most_ttft_s: float | None
    budget_dollars: float | None
    users: int | None
    num_machines: int | None


_AT_LEAST_1 = click.IntRange(min=1)
_ADVICE_OPTIONS = (
    click.option(
        "--private/--public", "is_private", default=None, help="with --advise: may the code leave your machines?"
    ),
    click.option(
        "--most-ttft",
        "most_ttft_s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="with --advise: longest wait for the first token of a new prompt",
    ),
    click.option(
        "--budget",
        "budget_dollars",
        type=click.FloatRange(min=0),
        metavar="DOLLARS",
        help="with --advise: a month, for an API",
    ),
    click.option("--users", type=_AT_LEAST_1, metavar="N", help="with --advise: who ask at the same time"),
    click.option("--machines", "num_machines", type=_AT_LEAST_1, metavar="N", help="with --advise: of this kind"),
)


def advice_options(command: Decorated) -> Decorated:
    """Give a command the options of the advice; it receives them as `advice_wishes`."""

    def bundled(**values: object) -> object:
        names = AdviceWishes.__dataclass_fields__
        wishes = AdviceWishes(**{name: values.pop(name) for name in names})  # type: ignore[arg-type]
        return command(advice_wishes=wishes, **values)

    bundled.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
    decorated: Decorated = bundled
    for option in reversed(_ADVICE_OPTIONS):
        decorated = option(decorated)
    return decorated


def print_advice(wishes: AdviceWishes, place: Place, *, context: int | None = None, as_json: bool = False) -> None:
    """Weigh the four ways to run a model, and write the recommendation, its alternatives and the next command.

    Args:
        wishes: from the options; what is missing is asked for at a terminal.
        place: the model that is wanted, the machine, and how fast it is.
        context: tokens of the longest prompt and its answer.
        as_json: one JSON object; nothing is asked.

    Raises:
        UsageError: it is not said whether the code may leave, and nobody can be asked.
    """
    can_ask = not as_json and sys.stdin.isatty() and sys.stderr.isatty()
    needs = _asked(wishes, place, context) if can_ask else _given(wishes, context)
    advice = advice_for(needs, place)
    if as_json:
        json.dump(advice.as_json(), sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
    else:
        sys.stdout.write("\n".join(advice_lines(advice)) + "\n")


def advice_lines(advice: Advice) -> Iterator[str]:
    """Describe an advice, a line at a time."""
    best = advice.recommended
    if best.is_possible:
        yield f"recommended: {best.title}"
        yield from _reasons(best)
        yield "next:"
        yield from (f"  {command}" for command in best.commands)
    else:
        yield "nothing fits what you ask for; give up some of it"
    for number, option in enumerate(advice.options[1:] if best.is_possible else advice.options, start=2):
        yield ""
        yield f"{number}. {option.title}" if option.is_possible else f"not possible: {option.title}"
        yield from _reasons(option)
        if option.is_possible:
            yield from (f"  {command}" for command in option.commands)


def _reasons(option: Option) -> Iterator[str]:
    return (f"  - {reason}" for reason in option.reasons)


def _given(wishes: AdviceWishes, context: int | None) -> Needs:
    if wishes.is_private is None:
        raise UsageError(
            "advice depends on whether the code may leave your machines", "add --private or --public to --advise"
        )
    return _needs(wishes, wishes.is_private, context or DEFAULT_CONTEXT)


def _asked(wishes: AdviceWishes, place: Place, context: int | None) -> Needs:
    """Ask on stderr, since stdout is the answer."""
    is_private = wishes.is_private
    if is_private is None:
        is_private = not click.confirm("May the code leave your machines?", default=False, err=True)
    if context is None:
        longest = place.preset.config.max_position_embeddings
        most = click.IntRange(1, longest)
        context = click.prompt(
            "Longest prompt in tokens", default=min(DEFAULT_CONTEXT, longest), type=most, show_default=True, err=True
        )
    users = wishes.users
    if users is None:
        users = click.prompt("Users at the same time", default=1, type=_AT_LEAST_1, show_default=True, err=True)
    return _needs(
        AdviceWishes(is_private, wishes.most_ttft_s, wishes.budget_dollars, users, wishes.num_machines),
        is_private,
        context,
    )


def _needs(wishes: AdviceWishes, is_private: bool, context: int) -> Needs:  # noqa: FBT001
    return Needs(
        is_private=is_private,
        context=context,
        most_ttft_s=wishes.most_ttft_s,
        budget_dollars=wishes.budget_dollars,
        users=wishes.users or 1,
        num_machines=wishes.num_machines or 1,
    )
