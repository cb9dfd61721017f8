"""Where a model should run: here, as a smaller one, behind an API, or on several machines; and why.

An option is impossible, or it is possible and misses some of what was asked for. Each miss has a weight; the option
with the least weight is recommended, and all the others follow with theirs. Every figure in a reason comes from the
plan, the prediction, or a dated and published price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from longlens.plan.api_terms import API_TERMS, answer_seconds, prompt_dollars
from longlens.plan.launch import Launch
from longlens.plan.table import format_seconds, format_tokens

OptionKind = Literal["local", "api", "smaller", "several machines"]
# Among equal weights the earlier one is recommended.
ORDER: tuple[OptionKind, ...] = ("local", "api", "several machines", "smaller")

READING_TOKENS_PER_S = 5.0
CANNOT_RUN_TODAY, NO_SUCH_MACHINE, ANOTHER_MODEL, MACHINES_MISSING, TOO_SLOW, OVER_BUDGET = 4, 4, 3, 3, 2, 2
# A smaller model of one process answers users one after another.
MOST_USERS_OF_ONE_PROCESS = 4


@dataclass(frozen=True)
class Needs:
    """What the user asks for.

    Attributes:
        is_private: the code must not leave machines that the user controls.
        context: tokens of the longest prompt and its answer.
        most_ttft_s: longest wait for the first token of a prompt that is read for the first time; None: any.
        budget_dollars: a month, for an API; None: not limited.
        users: people who ask at the same time.
        num_machines: machines of this kind that are there.
    """

    is_private: bool
    context: int
    most_ttft_s: float | None = None
    budget_dollars: float | None = None
    users: int = 1
    num_machines: int = 1


@dataclass(frozen=True)
class LocalRun:
    """What the plan and the prediction say of one model on one machine.

    Attributes:
        model: title of the model.
        machine: name of the kind of machine.
        hardware: its title.
        context: tokens that were planned for.
        fault: why it does not fit, with the nearest that does; empty if it fits.
        places: bytes by tier, in words.
        moves: what does not lie in the fastest tier, and why, a line each.
        not_built: why this plan cannot run yet; empty if it can.
        ttft_cold_s: None where nothing predicts it.
        ttft_memory_s: of a prompt whose beginning is in memory.
        decode_tokens_per_s: of one user.
        command: that starts it, or shows its plan.
    """

    model: str
    machine: str
    hardware: str
    context: int
    fault: str = ""
    places: str = ""
    moves: tuple[str, ...] = ()
    not_built: tuple[str, ...] = ()
    ttft_cold_s: float | None = None
    ttft_memory_s: float | None = None
    decode_tokens_per_s: float | None = None
    command: str = ""


@dataclass(frozen=True)
class Option:
    """One way to go.

    Attributes:
        kind: which of the four.
        title: one line.
        is_possible: false when nothing that is asked for can be had this way.
        weight: of what it misses; 0 misses nothing.
        reasons: one line each, with their figures.
        commands: to run next, in order.
    """

    kind: OptionKind
    title: str
    is_possible: bool
    weight: int
    reasons: tuple[str, ...]
    commands: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return {
            "kind": self.kind,
            "title": self.title,
            "is_possible": self.is_possible,
            "weight": self.weight,
            "reasons": list(self.reasons),
            "commands": list(self.commands),
        }


@dataclass(frozen=True)
class Advice:
    """Every option, the recommended one first."""

    options: tuple[Option, ...]

    @property
    def recommended(self) -> Option:
        """The first option; it is impossible only if all are."""
        return self.options[0]

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return {"recommended": self.recommended.kind, "options": [option.as_json() for option in self.options]}


@dataclass
class _Case:
    """What is found for and against an option while it is looked at."""

    reasons: list[str] = field(default_factory=list)
    weight: int = 0
    is_possible: bool = True

    def miss(self, weight: int, reason: str) -> None:
        self.weight += weight
        self.reasons.append(reason)

    def refuse(self, reason: str) -> None:
        self.is_possible = False
        self.reasons.append(reason)


def advise(needs: Needs, big: LocalRun, smaller: Sequence[LocalRun], launch: Launch | str) -> Advice:
    """Weigh the four ways.

    Args:
        needs: what is asked for.
        big: the model that is wanted, on this machine.
        smaller: other models on this machine, the most able first.
        launch: the model on several devices or machines, or why that is not possible.
    """
    options = [_local(needs, big), _api(needs), _several(needs, launch, big.machine), _smaller(needs, smaller)]
    ranked = sorted(options, key=lambda option: (not option.is_possible, option.weight, ORDER.index(option.kind)))
    return Advice(tuple(ranked))


def _local(needs: Needs, run: LocalRun) -> Option:
    case = _Case()
    _weigh_run(case, needs, run)
    title = f"{run.model} on {run.hardware}, {format_tokens(run.context)} of context"
    return _run_option("local", title, case, run)


def _smaller(needs: Needs, runs: Sequence[LocalRun]) -> Option:
    cases: list[tuple[_Case, LocalRun]] = []
    for run in runs:
        case = _Case()
        _weigh_run(case, needs, run)
        cases.append((case, run))
    best = min(cases, key=lambda pair: (not pair[0].is_possible, pair[0].weight), default=None)
    if best is None:
        return Option("smaller", "a smaller model", False, 0, ("no smaller model is known",))
    case, run = best
    case.miss(ANOTHER_MODEL, f"{run.model} finds, quotes and completes; it does not reason like the larger model")
    if needs.users > MOST_USERS_OF_ONE_PROCESS:
        case.miss(TOO_SLOW, f"{needs.users} users would wait for each other")
    return _run_option("smaller", f"{run.model}, a smaller model, on {run.hardware}", case, run)


def _run_option(kind: OptionKind, title: str, case: _Case, run: LocalRun) -> Option:
    commands = (run.command,) if case.is_possible else ()
    return Option(kind, title, case.is_possible, case.weight, tuple(case.reasons), commands)


def _weigh_run(case: _Case, needs: Needs, run: LocalRun) -> None:
    if run.context < needs.context:
        case.refuse(f"{run.model} reads {format_tokens(run.context)} at most, {format_tokens(needs.context)} are asked")
        return
    if run.fault:
        case.refuse(f"it does not fit: {run.fault}")
        return
    case.reasons += [f"it fits: {run.places}", *run.moves]
    if run.not_built:
        case.miss(CANNOT_RUN_TODAY, f"longlens cannot run this plan yet: {'; '.join(run.not_built)}")
    _weigh_wait(case, needs, run.ttft_cold_s, run.ttft_memory_s)
    if run.decode_tokens_per_s is None:
        case.reasons.append("its speed is not known: measure this machine with `longlens plan --probe`")
        return
    share = run.decode_tokens_per_s / needs.users
    speed = f"{run.decode_tokens_per_s:.1f} tokens a second" + (f", {share:.1f} a user" if needs.users > 1 else "")
    if share < READING_TOKENS_PER_S:
        case.miss(TOO_SLOW, f"{speed}: slower than reading ({READING_TOKENS_PER_S:.0f})")
    else:
        case.reasons.append(speed)


def _weigh_wait(case: _Case, needs: Needs, cold_s: float | None, memory_s: float | None) -> None:
    if cold_s is None:
        return
    again = "" if memory_s is None else f", {format_seconds(memory_s)} when its beginning is in memory"
    wait = f"the first token of a new prompt after {format_seconds(cold_s)}{again}"
    if needs.most_ttft_s is not None and cold_s > needs.most_ttft_s:
        case.miss(TOO_SLOW, f"{wait}; {format_seconds(needs.most_ttft_s)} are asked")
    else:
        case.reasons.append(wait)


def _api(needs: Needs) -> Option:
    case = _Case()
    terms = API_TERMS
    if needs.is_private:
        case.refuse("the code must not leave your machines")
    if needs.context > terms.most_context:
        case.refuse(f"it reads {format_tokens(terms.most_context)} at most")
    cold, again = prompt_dollars(needs.context, cached=0.0), prompt_dollars(needs.context, cached=1.0)
    case.reasons.append(f"a prompt of this length costs ${cold:.2f}, ${again:.2f} when it is cached ({terms.date})")
    if needs.budget_dollars is not None:
        count = int(needs.budget_dollars / cold)
        text = f"${needs.budget_dollars:,.0f} a month pay for {count:,} such prompts"
        if count < 1:
            case.miss(OVER_BUDGET, text)
        else:
            case.reasons.append(text)
    seconds = answer_seconds(needs.context)
    if seconds is not None:
        text = f"a prompt of this length was answered in {format_seconds(seconds)} ({terms.latency_source})"
        if needs.most_ttft_s is not None and seconds > needs.most_ttft_s:
            case.miss(TOO_SLOW, text)
        else:
            case.reasons.append(text)
    title = f"{terms.model} behind {terms.provider}'s API"
    return Option("api", title, case.is_possible, case.weight, tuple(case.reasons), (terms.command,))


def _several(needs: Needs, launch: Launch | str, machine: str) -> Option:
    if isinstance(launch, str):
        return Option("several machines", "several machines", False, 0, (launch,))
    case = _Case([launch.reason()])
    there = needs.num_machines if launch.hardware == machine else 0
    if launch.num_machines > there:
        case.miss(
            MACHINES_MISSING if there else NO_SUCH_MACHINE,
            f"machines of the kind {launch.hardware}: {launch.num_machines} are needed, {there} are there",
        )
    count = f"{launch.num_machines} x " if launch.num_machines > 1 else ""
    title = f"{launch.repository} on {count}{launch.hardware} with vLLM or SGLang"
    commands = (*launch.commands("vllm"), f"# or, in place of vLLM: {launch.commands('sglang')[-1]}")
    return Option("several machines", title, True, case.weight, tuple(case.reasons), commands)
