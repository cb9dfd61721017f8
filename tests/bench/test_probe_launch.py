from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longlens.bench.probe_launch import MIXED_CALLS, MIXED_VIEWS, NUM_VIEWS, mixed, views


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.views = self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        same = not isinstance(out, torch.Tensor) or any(
            isinstance(a, torch.Tensor) and a.data_ptr() == out.data_ptr() for a in args
        )
        is_view = str(func).split(".")[1] in (
            *("promote_types", "to", "select", "view", "slice", "transpose", "unsqueeze"),
            *(("flatten",) if same else ()),
        )
        self.views, self.calls = self.views + is_view, self.calls + (not is_view)
        return out


def test_the_mixed_run_dispatches_what_its_time_is_divided_by() -> None:
    x, weight = torch.rand(1, 64), torch.rand(64, 64)
    with torch.inference_mode():
        with Names() as of_mixed:
            mixed(x, weight)
        with Names() as of_views:
            views(x)
    assert (of_mixed.calls, of_mixed.views) == (MIXED_CALLS, MIXED_VIEWS)
    assert (of_views.calls, of_views.views) == (0, NUM_VIEWS)
