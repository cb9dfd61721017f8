"""Muon for matrices, AdamW for the rest, and the router's balance without a loss.

Source: Muon, https://kellerjordan.github.io/posts/muon/; balance by a bias, arXiv 2408.15664.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

MUON_RATE, ADAM_RATE, DECAY = 0.015, 2e-3, 0.05
BALANCE_RATE = 2e-3
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Optimiser:
    """Updates a model's parameters from their gradients."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._matrices, others = [], []
        for name, parameter in parameters.items():
            if name.endswith("e_score_correction_bias"):
                continue
            parameter.requires_grad_()
            small = "mlp.gate.weight" in name or "weights_proj" in name or "embed_tokens" in name
            (others if parameter.dim() == 1 or small else self._matrices).append(parameter)
        self._momenta = {parameter: torch.zeros_like(parameter) for parameter in self._matrices}
        self._adam = torch.optim.AdamW(
            others, lr=ADAM_RATE, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.01, fused=others[0].is_cuda
        )

    @torch.no_grad()
    def step(self, share: float, momentum: float) -> None:
        """Take one step at `share` of the full rates, and clear the gradients."""
        for group in self._adam.param_groups:
            group["lr"] = ADAM_RATE * share
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in self._matrices:
            if parameter.grad is not None:
                by_shape[parameter.shape].append(parameter)
        for shape, members in by_shape.items():
            gradients = [member.grad for member in members]
            momenta = [self._momenta[member] for member in members]
            torch._foreach_lerp_(momenta, gradients, 1 - momentum)
            ahead = torch._foreach_lerp(gradients, momenta, momentum)
            stack = torch.stack(ahead).flatten(0, -3) if len(shape) == 3 else torch.stack(ahead)
            updates = orthogonal(stack).view(len(members), *shape)
            rate = MUON_RATE * share * max(1.0, shape[-2] / shape[-1]) ** 0.5
            torch._foreach_mul_(members, 1 - MUON_RATE * share * DECAY)
            torch._foreach_add_(members, list(updates.to(members[0].dtype).unbind()), alpha=-rate)
            for member in members:
                member.grad = None


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring every singular value of some matrices, [G, Y, X], near one, by five Newton-Schulz steps."""
    a, b, c = _NEWTON_SCHULZ
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    is_tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if is_tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if is_tall else x


@torch.no_grad()
def balance(parameters: Mapping[str, Tensor], loads: Mapping[int, Tensor], rate: float = BALANCE_RATE) -> None:
    """Move each router's bias towards experts that got fewer tokens than the mean."""
    for layer, load_E in loads.items():
        bias = parameters[f"model.layers.{layer}.mlp.gate.e_score_correction_bias"]
        bias += rate * torch.sign(load_E.mean() - load_E)
        bias -= bias.mean()
