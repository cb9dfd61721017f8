"""Run GLM-5.2-class models on the machine you own: `longlens.load(...)`, then `generate` or `logits`.

Names that need torch are resolved when they are first used, so that `import longlens` starts in a blink.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from longlens.errors import (
    CancelledError,
    CapacityError,
    ConfigError,
    ContextLengthError,
    FormatError,
    LonglensError,
    ModelFileError,
    ModelNotFoundError,
    ParameterError,
    SelectionError,
    ShapeError,
    TemplateError,
    UnsupportedModelError,
    UsageError,
)

if TYPE_CHECKING:
    from longlens.chat.facade import LoadedModel, Session, load
    from longlens.chat.request import Finished
    from longlens.engine.sampling import SamplingParams
    from longlens.text.reply import ReasoningDelta, TextDelta, ToolCallDelta

__version__ = "0.1.0"

__all__ = [
    "CancelledError",
    "CapacityError",
    "ConfigError",
    "ContextLengthError",
    "Finished",
    "FormatError",
    "LoadedModel",
    "LonglensError",
    "ModelFileError",
    "ModelNotFoundError",
    "ParameterError",
    "ReasoningDelta",
    "SamplingParams",
    "SelectionError",
    "Session",
    "ShapeError",
    "TemplateError",
    "TextDelta",
    "ToolCallDelta",
    "UnsupportedModelError",
    "UsageError",
    "__version__",
    "load",
]

_LAZY = {
    "Finished": "longlens.chat.request",
    "LoadedModel": "longlens.chat.facade",
    "ReasoningDelta": "longlens.text.reply",
    "SamplingParams": "longlens.engine.sampling",
    "Session": "longlens.chat.facade",
    "TextDelta": "longlens.text.reply",
    "ToolCallDelta": "longlens.text.reply",
    "load": "longlens.chat.facade",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
