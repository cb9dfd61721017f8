"""What a model asks of a checkpoint, said without naming a file format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["compute", "fp32"]


@dataclass(frozen=True)
class ParameterNeed:
    """One parameter that a model wants.

    Attributes:
        name: the project's own name for it; `weights/names.py` maps it to each file layout.
        shape: sizes as the model uses it, slowest-varying first.
        precision: "compute" follows the plan's element type; "fp32" stays in fp32 whatever the plan says (router
            bias and the indexer's head weights lose selections otherwise).
        is_run: false for parameters that are recognised and kept, but not yet computed with (the MTP layer's).
    """

    name: str
    shape: tuple[int, ...]
    precision: Precision = "compute"
    is_run: bool = True

    @property
    def num_elements(self) -> int:
        """Product of the sizes."""
        count = 1
        for size in self.shape:
            count *= size
        return count
