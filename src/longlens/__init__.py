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
    LogitsError,
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
    from longlens.chat.conversation import ChatOptions
    from longlens.chat.facade import Asking, LoadedModel, Session, load
    from longlens.chat.request import Finished
    from longlens.engine.sampling import SamplingParams
    from longlens.text.messages import Message, Tool, ToolCall
    from longlens.text.reply import ReasoningDelta, TextDelta, ToolCallDelta

__version__ = "0.1.0"

__all__ = [
    "Asking",
    "CancelledError",
    "CapacityError",
    "ChatOptions",
    "ConfigError",
    "ContextLengthError",
    "Finished",
    "FormatError",
    "LoadedModel",
    "LogitsError",
    "LonglensError",
    "Message",
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
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "UnsupportedModelError",
    "UsageError",
    "__version__",
    "load",
]

_LAZY = {
    "Asking": "longlens.chat.facade",
    "ChatOptions": "longlens.chat.conversation",
    "Finished": "longlens.chat.request",
    "LoadedModel": "longlens.chat.facade",
    "Message": "longlens.text.messages",
    "ReasoningDelta": "longlens.text.reply",
    "SamplingParams": "longlens.engine.sampling",
    "Session": "longlens.chat.facade",
    "TextDelta": "longlens.text.reply",
    "Tool": "longlens.text.messages",
    "ToolCall": "longlens.text.messages",
    "ToolCallDelta": "longlens.text.reply",
    "load": "longlens.chat.facade",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
