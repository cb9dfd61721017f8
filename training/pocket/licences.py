"""Whether a Debian package's Python files are all under licences that allow training and shipping a model.

Source: the machine-readable copyright format (DEP-5), https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
"""

from __future__ import annotations

import re
from fnmatch import fnmatch

PERMISSIVE = (
    *("mit", "mit-*", "expat", "mit/x11", "x11", "isc", "0bsd", "hpnd", "zlib", "zlib/libpng", "boost", "bsl-1.0"),
    *("bsd", "bsd-2*", "bsd-3*", "bsd2*", "bsd3*", "2-clause*", "3-clause*"),
    *("apache", "apache2*", "apache-2*", "asl-2*", "psf*", "python", "python-2*", "python2*"),
    *("cc0", "cc0-1.0", "public-domain", "public domain", "unlicense"),
)
_OTHER_FILES = re.compile(
    r"(debian|docs?|examples?|po|locale|man|images?)/|.*\.(?!py\b|\*)[a-z0-9_]+$|.*(LICEN[CS]E|COPYING)", re.I
)


def licences_of(copyright_text: str) -> tuple[str, ...] | None:
    """Licence names of a package's Python files; None when the file is not machine-readable."""
    stanzas = [_fields(stanza) for stanza in re.split(r"\n\s*\n", copyright_text)]
    if not any("copyright-format" in stanza.get("format", "") for stanza in stanzas):
        return None
    found = []
    for stanza in stanzas:
        patterns = stanza.get("files", "").split()
        if patterns and not all(_OTHER_FILES.match(pattern) for pattern in patterns):
            found.append(stanza.get("license", "").split("\n")[0].strip().lower())
    return tuple(sorted(set(found))) or None


def is_permissive(licence: str) -> bool:
    """Whether an expression ("a and b", "a or b") leaves only permissive choices to take."""
    everyone = re.split(r"\s+and\s+|\s*,\s*(?:and\s+)?", licence)
    return all(any(_is_listed(choice) for choice in re.split(r"\s+or\s+", part)) for part in everyone if part) and bool(
        licence
    )


def _is_listed(name: str) -> bool:
    return any(fnmatch(name.strip(), pattern) for pattern in PERMISSIVE)


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    key = ""
    for line in stanza.splitlines():
        match = re.match(r"([A-Za-z-]+):\s*(.*)", line)
        if match:
            key = match[1].lower()
            fields[key] = match[2]
        elif key and line[:1].isspace():
            fields[key] += "\n" + line.strip()
    return fields
