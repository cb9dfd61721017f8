"""The rules of CONTRIBUTING.md that one source file can break by itself.

Every rule takes the text of a file and returns its violations, `line: what is wrong`; an empty list means that all
is well. What ruff, mypy and import-linter can say is not repeated here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 6

Function = ast.FunctionDef | ast.AsyncFunctionDef

NETWORK_LIBRARIES = frozenset(
    {"socket", "socketserver", "ssl", "http", "urllib.request", "urllib3", "requests", "httpx", "aiohttp", "websockets"}
    | {"ftplib", "smtplib", "xmlrpc", "fastapi", "starlette", "uvicorn", "huggingface_hub"}
)
MUTATING_METHODS = frozenset(
    {"append", "extend", "insert", "remove", "pop", "popitem", "clear", "add", "discard", "update", "setdefault"}
    | {"appendleft", "popleft", "sort", "reverse"}
)


def long_file(source: str) -> list[str]:
    """Refuse a file of more than 400 lines."""
    num_lines = len(source.splitlines())
    return [f"1: {num_lines} lines, at most {MOST_FILE_LINES}"] if num_lines > MOST_FILE_LINES else []


def long_functions(source: str) -> list[str]:
    """Refuse a function of more than 60 lines; its docstring does not count, since good ones are long."""
    found = []
    for function in _functions(ast.parse(source)):
        num_lines = _last_line(function) - function.lineno + 1 - _docstring_lines(function)
        if num_lines > MOST_FUNCTION_LINES:
            found.append(f"{function.lineno}: {function.name} has {num_lines} lines, at most {MOST_FUNCTION_LINES}")
    return found


def many_parameters(source: str) -> list[str]:
    """Refuse a function of more than six parameters; `self` and `cls` do not count."""
    found = []
    for function in _functions(ast.parse(source)):
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        names += [a.arg for a in (arguments.vararg, arguments.kwarg) if a]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > MOST_PARAMETERS:
            found.append(f"{function.lineno}: {function.name} takes {count} parameters: a record is missing")
    return found


def late_imports(source: str) -> list[str]:
    """Refuse imports inside functions, and importing by a name that is computed."""
    found = []
    tree = ast.parse(source)
    for function in _functions(tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.append(f"{node.lineno}: import inside {function.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _dotted(node.func).split(".")[-1] in ("import_module", "__import__"):
            found.append(f"{node.lineno}: import by name")
    return sorted(set(found))


def blind_excepts(source: str) -> list[str]:
    """Refuse to catch everything: bare `except`, `Exception` and `BaseException`, `suppress(Exception)`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        caught: list[ast.expr] = []
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.append(f"{node.lineno}: bare except")
            else:
                caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        elif isinstance(node, ast.Call) and _dotted(node.func).split(".")[-1] == "suppress":
            caught = node.args
        blind = [name for name in map(_dotted, caught) if name.split(".")[-1] in ("Exception", "BaseException")]
        found += [f"{node.lineno}: catches {name}" for name in blind]
    return found


def network_imports(source: str) -> list[str]:
    """Refuse libraries that open sockets."""
    found = []
    for line, module in imported_modules(ast.parse(source)):
        prefixes = {module, module.split(".")[0], ".".join(module.split(".")[:2])}
        if prefixes & NETWORK_LIBRARIES:
            found.append(f"{line}: imports {module}")
    return found


def environment_reads(source: str) -> list[str]:
    """Refuse reading or changing environment variables."""
    names = ("environ", "environb", "getenv", "getenvb", "putenv", "unsetenv")
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in names:
            found.append(f"{node.lineno}: {_dotted(node)}")
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            found += [f"{node.lineno}: from os import {a.name}" for a in node.names if a.name in names]
    return found


def changing_globals(source: str) -> list[str]:
    """Refuse `global`, and functions that change a list, dict or set of the module."""
    tree = ast.parse(source)
    module_names = {name for node in tree.body for name in _bound_names(node)}
    found = []
    for function in _functions(tree):
        nodes = list(ast.walk(function))
        local = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
        local |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        shared = module_names - local
        for node in nodes:
            if isinstance(node, ast.Global):
                found.append(f"{node.lineno}: global {', '.join(node.names)}")
            elif _changed_name(node) in shared:
                found.append(f"{node.lineno}: {function.name} changes the module's {_changed_name(node)}")
    return found


def tests_without_assert(source: str) -> list[str]:
    """Refuse a test that cannot fail: no assert, no pytest.raises/warns/fail, no helper that asserts.

    A helper asserts if its name begins with `assert_` or `check_`, or if it lies in the same file and asserts.
    """
    functions = list(_functions(ast.parse(source)))
    asserting: set[str] = set()
    while True:
        more = {f.name for f in functions if f.name not in asserting and _asserts(f, asserting)}
        if not more:
            break
        asserting |= more
    tests = [f for f in functions if f.name.startswith("test_")]
    return [f"{f.lineno}: {f.name} asserts nothing" for f in tests if f.name not in asserting]


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything that a file imports; for `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _asserts(function: Function, asserting: set[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = _dotted(node.func).split(".")[-1]
            if name in asserting or name.startswith(("assert_", "check_")):
                return True
            if _dotted(node.func) in ("pytest.raises", "pytest.warns", "pytest.fail"):
                return True
    return False


def _functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _last_line(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _docstring_lines(function: Function) -> int:
    if ast.get_docstring(function) is None:
        return 0
    return _last_line(function.body[0]) - function.body[0].lineno + 1


def _dotted(node: ast.expr) -> str:
    """`a.b.c` as text; what is not a name counts as an empty part."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _changed_name(node: ast.AST) -> str:
    """Name of the container that a node changes in place, or an empty text."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return _dotted(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING_METHODS:
        return _dotted(node.func.value)
    return ""
