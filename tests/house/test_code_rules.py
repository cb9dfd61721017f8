"""Every rule about source files refuses what it is there to refuse, and lets pass what is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.house import code_rules

Rule = Callable[[str], list[str]]

REFUSED: list[tuple[Rule, str]] = [
    (code_rules.long_file, "x = 1\n" * 401),
    (code_rules.long_functions, "def f():\n" + "    x = 1\n" * 60),
    (code_rules.long_functions, "class A:\n  async def f():\n" + "    x = 1\n" * 60),
    (code_rules.many_parameters, "def f(a, b, c, d, e, f, g): ..."),
    (code_rules.many_parameters, "def f(a, b, c, /, d, *rest, e, **more): ..."),
    (code_rules.many_parameters, "class A:\n  def f(self, a, b, c, d, e, f, g): ..."),
    (code_rules.late_imports, "def f():\n  import torch"),
    (code_rules.late_imports, "def f():\n  if x:\n    from torch import nn"),
    (code_rules.late_imports, "torch = importlib.import_module('torch')"),
    (code_rules.late_imports, "torch = __import__('torch')"),
    (code_rules.blind_excepts, "try: pass\nexcept: pass"),
    (code_rules.blind_excepts, "try: pass\nexcept Exception: raise"),
    (code_rules.blind_excepts, "try: pass\nexcept builtins.BaseException: pass"),
    (code_rules.blind_excepts, "try: pass\nexcept (ValueError, Exception): pass"),
    (code_rules.blind_excepts, "with contextlib.suppress(Exception): pass"),
    (code_rules.network_imports, "import socket"),
    (code_rules.network_imports, "import urllib.request as r"),
    (code_rules.network_imports, "from urllib import request"),
    (code_rules.network_imports, "from http.server import HTTPServer"),
    (code_rules.network_imports, "def f():\n  import requests"),
    (code_rules.environment_reads, "x = os.environ['HOME']"),
    (code_rules.environment_reads, "x = os.getenv('HOME')"),
    (code_rules.environment_reads, "from os import environ"),
    (code_rules.changing_globals, "x = 1\ndef f():\n  global x\n  x = 2"),
    (code_rules.changing_globals, "cache = {}\ndef f(k):\n  cache[k] = 1"),
    (code_rules.changing_globals, "cache: list[int] = []\ndef f(k):\n  cache.append(k)"),
    (code_rules.changing_globals, "cache = {}\ndef f(k):\n  del cache[k]"),
    (code_rules.changing_globals, "cache = {}\ndef f(k):\n  cache[k] += 1"),
    (code_rules.tests_without_assert, "def test_a(): f()"),
    (code_rules.tests_without_assert, "class TestA:\n  def test_a(self): pass"),
    (code_rules.tests_without_assert, "def build(): return 1\ndef test_a(): build()"),
]

ALLOWED: list[tuple[Rule, str]] = [
    (code_rules.long_file, "x = 1\n" * 400),
    (code_rules.long_functions, "def f():\n" + "    x = 1\n" * 59),
    (code_rules.long_functions, "def f():\n    '''a\n" + "    b\n" * 50 + "    '''\n" + "    x = 1\n" * 20),
    (code_rules.many_parameters, "class A:\n  def f(self, a, b, c, d, e, f): ..."),
    (code_rules.late_imports, "import torch\nif True:\n  import numpy\ndef f(): ..."),
    (code_rules.blind_excepts, "try: pass\nexcept (OSError, ValueError): pass"),
    (code_rules.blind_excepts, "with suppress(OSError): raise Exception"),
    (code_rules.network_imports, "import urllib.parse\nimport httpx_name\nfrom longlens import hub"),
    (code_rules.environment_reads, "import os\nos.cpu_count()"),
    (code_rules.changing_globals, "TABLE = {1: 2}\ndef f(k):\n  table = {}\n  table[k] = TABLE[k]\n  table.update({})"),
    (code_rules.changing_globals, "seen = []\ndef f(seen):\n  seen.append(1)"),
    (code_rules.tests_without_assert, "def test_a(): assert f()"),
    (code_rules.tests_without_assert, "def test_a():\n  with pytest.raises(ValueError): f()"),
    (code_rules.tests_without_assert, "def test_a(): check_same(1, 2)"),
    (code_rules.tests_without_assert, "def same(a, b): assert a == b\ndef both(): same(1, 1)\ndef test_a(): both()"),
]


@pytest.mark.parametrize(("rule", "source"), REFUSED)
def test_a_rule_refuses_its_violation_and_names_the_line(rule: Rule, source: str) -> None:
    violations = rule(source)
    assert len(violations) >= 1
    assert all(violation.partition(":")[0].isdigit() for violation in violations)


@pytest.mark.parametrize(("rule", "source"), ALLOWED)
def test_a_rule_lets_pass_what_is_right(rule: Rule, source: str) -> None:
    assert rule(source) == []
