from __future__ import annotations

import time

import pytest

from longlens.repo.definitions import definition_rule

DEFINING = {
    "a.py": ["def f():", "    async def f(", "class A:", "\tclass Ä:"],
    "a.ts": ["export default function f() {", "function* g() {", "const f = (a, b) => {", "type X = 3"],
    "a.jsx": ["export const f = async x => y", "let f = function () {", "const f = (a: number): string => {"],
    "a.go": ["func (a *A) x() {", "type X struct {", "type ("],
    "a.rs": ["pub(crate) fn f() {", "impl<T> A {", 'pub unsafe extern "C" fn f', "macro_rules! x {", "  mod a;"],
    "a.c": ["struct a {", "struct a", "typedef int x;", "#define A 1", "int f(int a)", "static void f() {"],
    "a.hpp": ["class A : public B, C {", "enum class E : int {", "namespace a::b {"],
    "a.kt": ["enum class E {", "fun <T> f()", "  suspend fun a()", "@Override fun x() ="],
    "a.java": ["public static final class A {", "interface B"],
    "a.sh": ["f() {", "my-f () {", "function x {"],
    "a.php": ["  public static function x() {"],
    "a.lua": ["local function f()"],
    "a.md": ["# a", "###### b"],
    "A.PY": ["def f():"],
}
NOT_DEFINING = {
    "a.py": ["define = 1", "# def f():", "class", "return def_(x)"],
    "a.ts": ["const x = foo.map(y => y)", "let x = 3;", "typeof x", "return function"],
    "a.go": [" func x", "typed"],
    "a.rs": ["let x = fn_a();", "implement()"],
    "a.c": ["struct a *b;", "  struct a b,", "struct a;", "#if defined(A)", "  if (x) {", "// f()", "return a + b;"],
    "a.kt": [" * class foo", "return x"],
    "a.sh": ["f x", "if f() ;"],
    "a.md": ["####### a", "#a"],
    "a.txt": ["def f():"],
}


@pytest.mark.parametrize(("path", "line"), [(path, line) for path, lines in DEFINING.items() for line in lines])
def test_a_line_that_defines_is_known(path: str, line: str) -> None:
    rule = definition_rule(path)
    assert rule is not None
    assert rule(line.encode())


@pytest.mark.parametrize(("path", "line"), [(path, line) for path, lines in NOT_DEFINING.items() for line in lines])
def test_a_line_that_defines_nothing_is_not_taken_for_one(path: str, line: str) -> None:
    rule = definition_rule(path)
    assert rule is None or not rule(line.encode())


@pytest.mark.parametrize("path", [*DEFINING])
@pytest.mark.parametrize(
    "unit", ["(", ") ", "const a = (", "export ", "a", "public ", " ", "struct a ", "a(){", "pub("]
)
def test_a_very_long_line_takes_linear_time(path: str, unit: str) -> None:
    rule = definition_rule(path)
    assert rule is not None
    line = (unit * 300_000)[:300_000].encode() + b"!"
    start = time.perf_counter()
    rule(line)
    assert time.perf_counter() - start < 1
