"""Which lines of a file define something, told by the file's name and the line alone.

Source: docs/reference/pack-format.md, version 1. Every pattern is tried at a line's beginning and takes time linear in
the line's length, whatever stands in it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

IsDefinition = Callable[[bytes], object]


_PYTHON = rb"[ \t\f]*(?:async[ \t]+)?(?:def|class)[ \t]+[A-Za-z_\x80-\xff]"

_JAVASCRIPT = rb"""
    [ \t]*(?:(?:export|default|declare|abstract|async)[ \t]+)*
    (?: (?:function(?:[ \t]*\*)?|class|interface|enum|namespace|type)[ \t]+[A-Za-z_$\x80-\xff]
      | function[ \t]*\*[ \t]*[A-Za-z_$\x80-\xff]
      | (?:const|let|var)[ \t]+[A-Za-z_$\x80-\xff][\w$\x80-\xff]*+[ \t]*+(?::[^=]*+)?=[ \t]*+(?:async\b[ \t]*+)?
        (?:function\b | \([^()]*+\)[^=(){}]*+=> | [A-Za-z_$\x80-\xff][\w$\x80-\xff]*+[ \t]*+=>) )
"""

_GO = rb"(?:func|type)\b"

_RUST = rb"""
    [ \t]*(?:pub(?:[ \t]*\([^()]*\))?[ \t]+)?
    (?:(?:unsafe|async|const|extern(?:[ \t]+"[^"]*")?)[ \t]+)*
    (?: (?:fn|struct|enum|trait|mod|union|type)[ \t]+[A-Za-z_\x80-\xff] | impl\b | macro_rules! )
"""

# What only names a type (`struct a *b;`, `struct a b,`) defines nothing: up to `:`, `{` or the end stands a name.
_C = rb"""
    [ \t]*(?: (?:struct|class|enum|union|namespace)[ \t]+[A-Za-z_\x80-\xff][^;,()*&=:{]*+(?:[:{]|$)
            | typedef[ \t]+[A-Za-z_\x80-\xff]
            | \#[ \t]*define[ \t]+[A-Za-z_\x80-\xff] )
    | [A-Za-z_\[\x80-\xff][^(]*+\([^\n]*[{)]$
"""

_JAVA = rb"""
    [ \t]*(?:(?:public|private|protected|internal|fileprivate|static|final|abstract|sealed|non-sealed|open|override
      |partial|async|suspend|inline|data|case|implicit|lazy|virtual|readonly|unsafe|extern|external|native|default
      |synchronized|strictfp|indirect|mutating|nonmutating|convenience|required|dynamic|operator|infix|tailrec
      |annotation|companion|value|inner|expect|actual|new|ref|enum|record|@\w+)[ \t]+)*
    (?:class|interface|enum|record|struct|object|protocol|trait|func|fun|def)[ \t]+[A-Za-z_$<`\x80-\xff]
"""

_SCRIPT = rb"""
    [ \t]*(?:(?:local|private|public|protected|static|abstract|final)[ \t]+)*
    (?: (?:def|class|module|function|sub)[ \t]+&?[A-Za-z_\x80-\xff]
      | [A-Za-z_][\w.:-]*+[ \t]*+\([ \t]*+\)[ \t]*+\{ )
"""

_MARKDOWN = rb"\#{1,6}[ \t]"

_LANGUAGES: tuple[tuple[str, bytes], ...] = (
    (".py .pyi .pyx", _PYTHON),
    (".js .jsx .mjs .cjs .ts .tsx .mts .cts", _JAVASCRIPT),
    (".go", _GO),
    (".rs", _RUST),
    (".c .h .cc .cpp .cxx .hpp .hh .cu .cuh", _C),
    (".java .kt .cs .scala .swift", _JAVA),
    (".rb .php .lua .sh .bash .pl", _SCRIPT),
    (".md .rst .markdown", _MARKDOWN),
)
_OF_EXTENSION: dict[str, IsDefinition] = {
    extension: re.compile(pattern, re.VERBOSE).match
    for extensions, pattern in _LANGUAGES
    for extension in extensions.split()
}


def definition_rule(path: str) -> IsDefinition | None:
    """Return the rule for a file's lines: it is given a line without white space at its end, and is true if it defines.

    Args:
        path: the file's path or name; the extension decides, in capitals or not. None for a language without a rule.
    """
    return _OF_EXTENSION.get(posixpath.splitext(path)[1].lower())
