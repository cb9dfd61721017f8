"""Why a file is left out of a pack, told by its path or by its bytes."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

MOST_FILE_BYTES = 1024 * 1024
MOST_LINE_BYTES = 10_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


REPOSITORY_FOLDERS = frozenset({".git", ".hg", ".svn", ".jj"})
_VENDORED = _words(
    "node_modules bower_components vendor third_party third-party site-packages .venv venv Pods __pycache__ .tox .nox "
    ".mypy_cache .pytest_cache .ruff_cache .gradle .terraform .eggs"
)
_LOCK_FILES = _words(
    "package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb deno.lock poetry.lock uv.lock "
    "pdm.lock pixi.lock Pipfile.lock Cargo.lock go.sum go.work.sum Gemfile.lock composer.lock mix.lock flake.lock "
    "packages.lock.json Podfile.lock Package.resolved gradle.lockfile pubspec.lock conan.lock"
)
_DEPENDENCIES = _words(
    "pyproject.toml setup.py setup.cfg Pipfile environment.yml environment.yaml package.json deno.json Cargo.toml "
    "go.mod go.work pom.xml build.gradle build.gradle.kts settings.gradle settings.gradle.kts build.sbt Gemfile "
    "composer.json CMakeLists.txt meson.build mix.exs Package.swift Podfile pubspec.yaml vcpkg.json conanfile.txt "
    "conanfile.py Directory.Packages.props"
)
_DEPENDENCY_PATTERNS = ("requirements*.txt", "constraints*.txt", "*.csproj", "*.gemspec", "*.cabal")
_GENERATED_PATTERNS = _words(
    "*.min.js *.min.css *.min.mjs *.bundle.js *.map *_pb2.py *_pb2.pyi *_pb2_grpc.py *.pb.go *.pb.cc *.pb.h *.g.dart "
    "*.freezed.dart *.designer.cs *.g.cs *.generated.* *.snap"
)
_BINARY = _words(
    ".png .jpg .jpeg .gif .bmp .ico .icns .webp .avif .tif .tiff .psd .pdf .zip .gz .bz2 .xz .zst .7z .tar .tgz .jar "
    ".war .whl .so .dylib .dll .exe .a .o .obj .lib .bin .dat .pyc .class .wasm .mp3 .mp4 .mov .avi .wav .ogg .flac "
    ".woff .woff2 .ttf .otf .eot .gguf .safetensors .npy .npz .pt .pth .onnx .parquet .sqlite .db .pkl"
)
_GENERATED_MARK = re.compile(
    rb"@generated\b|\bgenerated\b.{0,200}\bdo not edit\b|\bdo not edit\b.{0,200}generated", re.I
)
_COMMENT_BEGINS = (b"#", b"//", b"/*", b"*", b"--", b"<!--", b";", b"%", b'"""')
_CONTROL = bytes({*range(32), 127} - set(b"\t\n\r\f\x1b\x08"))


def is_dependency_config(path: str) -> bool:
    """Whether a file says what the repository depends on; such files are always in."""
    name = path.rpartition("/")[2]
    return name in _DEPENDENCIES or any(fnmatchcase(name, pattern) for pattern in _DEPENDENCY_PATTERNS)


def vendored_folder(path: str) -> str | None:
    """Return the folder in a path that holds other people's code or a tool's files, if there is one."""
    return next(
        (folder for folder in path.split("/")[:-1] if folder in _VENDORED or folder.endswith(".egg-info")), None
    )


def is_left_out_folder(name: str) -> bool:
    """Whether nothing below a folder of this name is ever taken."""
    return name in _VENDORED or name.endswith(".egg-info")


def reason_by_path(path: str) -> str | None:
    """Return why a file is left out, as its path says, or None."""
    name = path.rpartition("/")[2]
    if (folder := vendored_folder(path)) is not None:
        return f"vendored: below {folder}"
    if name in _LOCK_FILES:
        return "a lock file"
    if "." in name and "." + name.rpartition(".")[2].lower() in _BINARY:
        return "binary, by its name"
    if not is_dependency_config(path) and any(fnmatchcase(name, pattern) for pattern in _GENERATED_PATTERNS):
        return "generated, by its name"
    return None


def reason_by_content(path: str, content: bytes) -> str | None:
    """Return why a file is left out, as its bytes say, or None; any encoding without NUL bytes is text."""
    if b"\0" in content:
        return "binary: it holds NUL bytes"
    controls = len(content) - len(content.translate(None, _CONTROL))
    if controls * 10 > len(content):
        return "binary: more than a tenth is control characters"
    if is_dependency_config(path):
        return None
    if _says_generated(content):
        return "generated, as its first lines say"
    if len(content) > MOST_LINE_BYTES:
        longest = max(map(len, content.split(b"\n")))
        if longest > MOST_LINE_BYTES:
            return f"minified or data: a line of {longest} bytes"
    return None


def _says_generated(content: bytes) -> bool:
    lines = (line.strip()[:400] for line in content[:4096].split(b"\n")[:10])
    return any(line.startswith(_COMMENT_BEGINS) and _GENERATED_MARK.search(line) for line in lines)
