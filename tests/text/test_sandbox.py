from __future__ import annotations

from datetime import datetime
from typing import Any

import jinja2
import pytest
from jinja2.exceptions import SecurityError

from longlens.text.sandbox import MAX_REPEATED, STAND_INS, STEP, Steps, TemplateEnvironment, TemplateRefusalError

ENVIRONMENT = TemplateEnvironment(lambda: datetime(2026, 8, 1, 12, 30))


def run(source: str, *, steps: int = 1000, stand_ins: str = "", **variables: Any) -> str:
    template = ENVIRONMENT.compile_counted(source)
    return template.render({**variables, STEP: Steps(steps), STAND_INS: frozenset(stand_ins)})


def test_blocks_leave_no_white_space() -> None:
    assert run("  {% if true %}\nx\n  {% endif %}\ny") == "x\ny"


def test_loops_can_be_left_and_continued() -> None:
    source = (
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    )
    assert run(source) == "023"


def test_json_is_written_as_chat_templates_expect() -> None:
    value = {"b": "<é> & 'x'", "a": [1, None]}
    assert run("{{ v | tojson }}", v=value) == '{"b": "<é> & \'x\'", "a": [1, null]}'
    assert run("{{ v | tojson(ensure_ascii=True) }}", v="é😀") == r'"\u00e9\ud83d\ude00"'
    assert run("{{ v | tojson(indent=1, sort_keys=true) }}", v={"b": 1, "a": 2}) == '{\n "a": 2,\n "b": 1\n}'
    assert run("{{ v | tojson(separators=(',', ':')) }}", v={"b": [1, 2]}) == '{"b":[1,2]}'


def test_json_in_ascii_keeps_stand_ins() -> None:
    assert run("{{ v | tojson(ensure_ascii=True) }}", stand_ins="䷀", v="䷀é䷁") == '"䷀\\u00e9\\u4dc1"'
    assert run("{% macro m(v) %}{{ v | tojson(true) }}{% endmacro %}{{ m(v) }}", stand_ins="䷀", v="䷀") == '"䷀"'


def test_a_template_may_refuse() -> None:
    with pytest.raises(TemplateRefusalError, match="no system role"):
        run("{{ raise_exception('no system role') }}")


def test_the_time_comes_from_the_clock() -> None:
    assert run("{{ strftime_now('%d %b %Y') }}") == "01 Aug 2026"


def test_the_generation_tag_is_read_as_its_contents() -> None:
    assert run("a{% generation %}b{{ 1 + 1 }}{% endgeneration %}c") == "ab2c"
    assert run("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}") == "2"


def test_namespaces_and_dicts_work() -> None:
    assert run("{% set ns = namespace(a=1) %}{% for i in [2, 3] %}{% set ns.a = i %}{% endfor %}{{ ns.a }}") == "3"
    assert run("{{ dict(a=1).a }}") == "1"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(100) %}{% for b in range(100) %}{% endfor %}{% endfor %}",
        "{% for a in range(100) %}{% for b in range(100) if b > 500 %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(30) }}",
        "{% for a in [1] recursive %}{% for b in range(2000) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_does_not_end_is_stopped(source: str) -> None:
    with pytest.raises(SecurityError, match="loops too often"):
        run(source)


def test_every_round_is_a_step() -> None:
    source = "{% macro m() %}{% endmacro %}{% for i in range(10) if i < 5 %}{{ m() }}{% endfor %}"
    assert run(source, steps=10 + 5 + 5) == ""
    with pytest.raises(SecurityError):
        run(source, steps=10 + 5 + 5 - 1)


@pytest.mark.parametrize(
    "source",
    [
        f"{{{{ 'x' * {MAX_REPEATED + 1} }}}}",
        f"{{{{ {MAX_REPEATED + 1} * 'x' }}}}",
        f"{{{{ [1, 2] * {MAX_REPEATED} }}}}",
        "{{ 10 ** 65 }}",
        "{{ 10 ** -65 }}",
        "{{ range(100001) }}",
    ],
)
def test_what_would_fill_memory_at_once_is_refused(source: str) -> None:
    with pytest.raises((SecurityError, OverflowError)):
        run(source)


def test_small_arithmetic_works() -> None:
    assert run("{{ '-' * 3 }}{{ 2 ** 10 }}{{ 6 * 7 }}{{ [1] * 2 }}") == "---102442[1, 1]"


@pytest.mark.parametrize(
    "source",
    [
        "{{ v.__class__.__mro__ }}",
        "{{ v.append(1) }}",
        "{{ range.__globals__.x }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% set ns = namespace(_a=1) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ raise_exception.__globals__.x }}",
        "{{ dict.fromkeys('ab') }}",
        "{{ lipsum() }}",
        "{{ cycler(1) }}",
    ],
)
def test_a_template_reaches_nothing_of_python(source: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        run(source, v=[0])


@pytest.mark.parametrize("source", ["{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}"])
def test_a_template_reads_no_other(source: str) -> None:
    with pytest.raises(TypeError, match="no loader"):
        run(source)
