"""The Jinja environment that chat templates run in: no files, no processes, no mutation, and an end.

Bounded: rounds of loops and calls of macros (`MAX_STEPS`), `range`, repetition of strings and lists, powers, and the
length of the output. Not bounded: the size of what one expression builds by other means, such as
`{% set text = text ~ text %}` in a loop, or padding to a width. A template that wants to fill memory still can; one
that never ends cannot.

Source: transformers, `chat_template_utils` (which filters, globals and tags chat templates rely on).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_STEPS = 500_000
MAX_REPEATED = 1_000_000
MAX_POWER = 64
STEP = "_longlens_step"
STAND_INS = "_longlens_stand_ins"

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class TemplateRefusalError(jinja2.TemplateError):
    """The template called `raise_exception`."""


class Steps:
    """Counts what a template does, and stops one that does not end."""

    def __init__(self, limit: int = MAX_STEPS) -> None:
        self._left = limit

    def __call__(self) -> bool:
        """Take a step; always true, so that it can stand in a condition.

        Raises:
            SecurityError: there were too many.
        """
        self._left -= 1
        if self._left < 0:
            raise SecurityError("it loops too often")
        return True


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Compiles chat templates.

    What is rendered needs two variables: `Steps` under the name `STEP`, and `Shield.stand_ins` under `STAND_INS`.

    Args:
        clock: tells `strftime_now` the time.
    """

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"])
        self.globals = {
            "range": self.globals["range"],
            "namespace": _TemplateNamespace,
            "dict": _new_dict,
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: clock().strftime(form),
        }
        self.filters["tojson"] = _to_json

    def compile_counted(self, source: str) -> jinja2.Template:
        """Compile a template so that each round of a loop and each call of a macro is a step.

        Raises:
            jinja2.TemplateSyntaxError: it is not a template.
        """
        tree = self.parse(source)
        for loop in list(tree.find_all(nodes.For)):
            loop.body.insert(0, nodes.ExprStmt(_step(loop.lineno), lineno=loop.lineno))
            if loop.test is not None:
                loop.test = nodes.And(_step(loop.lineno), loop.test, lineno=loop.lineno)
        for macro in list(tree.find_all(nodes.Macro)):
            macro.body.insert(0, nodes.ExprStmt(_step(macro.lineno), lineno=macro.lineno))
        tree.set_environment(self)
        return self.from_string(tree)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply or raise to a power, within bounds."""
        if operator == "**" and (not isinstance(right, int | float) or abs(right) > MAX_POWER):
            raise SecurityError("it raises to a power that is too high")
        for sequence, times in ((left, right), (right, left)):
            is_repeated = isinstance(sequence, str | list | tuple) and isinstance(times, int)
            if is_repeated and len(sequence) * times > MAX_REPEATED:
                raise SecurityError("it repeats a text too often")
        return super().call_binop(context, operator, left, right)


@jinja2.pass_context
def _to_json(
    context: Context,
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates may give it by place
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """The filter `tojson`: leaves HTML alone, and keeps stand-ins readable in every form."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if not ensure_ascii:
        return text
    stand_ins = context.resolve(STAND_INS)
    return _NOT_ASCII.sub(lambda match: match[0] if match[0] in stand_ins else json.dumps(match[0])[1:-1], text)


class _GenerationTag(Extension):
    """Reads `{% generation %}…{% endgeneration %}`, which marks text to train on, as its contents."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance's attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _TemplateNamespace(Namespace):
    """Jinja's namespace without attributes that reach into Python."""

    def __init__(*args: Any, **attributes: Any) -> None:
        self, *rest = args
        Namespace.__init__(self, *rest, **attributes)
        for name in dict(*rest, **attributes):
            _refuse_private(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"it sets the private attribute {name!r}")


def _new_dict(*args: Any, **entries: Any) -> dict[Any, Any]:
    return dict(*args, **entries)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateRefusalError(str(message))


def _step(lineno: int) -> nodes.Call:
    return nodes.Call(nodes.Name(STEP, "load", lineno=lineno), [], [], None, None, lineno=lineno)
