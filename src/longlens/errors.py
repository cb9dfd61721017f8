"""Every error that longlens raises on purpose, in one tree.

LonglensError                 a fault and a mend, both required
├── UsageError                the request itself is wrong (exit code 2 on the command line)
├── FormatError               a file is damaged, cut or not what its header says
├── ModelFileError            a readable checkpoint that cannot be this model
│   ├── UnsupportedModelError an architecture, tensor type or rotary type that longlens does not run
│   ├── ConfigError           a missing key, or a value of a known key that is not understood
│   └── ParameterError        a tensor is missing or has the wrong shape
├── ModelNotFoundError        a model reference leads to no file
├── CapacityError             the plan or the cache does not fit
│   └── ContextLengthError    more tokens than the context holds
├── ShapeError                tensors handed to a kernel disagree
├── SelectionError            a shared layer has no selection to reuse, or scores are not finite
├── LogitsError               logits that no token can be chosen from: NaN, infinite, or every token forbidden
├── TemplateError             the chat template is missing or refuses the messages
└── CancelledError            the caller asked to stop; what was finished is kept
"""

from __future__ import annotations


class LonglensError(Exception):
    """An error with a fault (what is wrong) and a mend (what to do), both one line of text."""

    def __init__(self, fault: str, mend: str) -> None:
        super().__init__(f"{fault}\nhint: {mend}")
        self.fault = fault
        self.mend = mend


class UsageError(LonglensError):
    """The request itself is wrong."""


class FormatError(LonglensError):
    """A file is damaged, cut short, or contradicts its own header."""


class ModelFileError(LonglensError):
    """A readable checkpoint that cannot be run as it stands."""


class UnsupportedModelError(ModelFileError):
    """An architecture, tensor type or rotary type that longlens does not run."""


class ConfigError(ModelFileError):
    """A configuration key is missing, or its value is not understood."""


class ParameterError(ModelFileError):
    """A tensor is missing or has the wrong shape."""


class ModelNotFoundError(LonglensError):
    """A model reference leads to no file."""


class CapacityError(LonglensError):
    """The plan, or the cache, does not fit."""


class ContextLengthError(CapacityError):
    """More tokens than the context holds."""


class ShapeError(LonglensError):
    """Tensors handed to an operation disagree about a size."""


class SelectionError(LonglensError):
    """A shared layer has no selection to reuse, or index scores are not finite."""


class LogitsError(LonglensError):
    """Logits that no token can be chosen from: NaN, infinite, or every token forbidden."""


class TemplateError(LonglensError):
    """The chat template is missing, or refuses the messages."""


class CancelledError(LonglensError):
    """The caller asked to stop; what was finished before is kept."""
