"""Run a tiny model through transformers and write down what it chose on the way.

Two changes to transformers, both made here and nowhere else:

* The indexer's `topk` becomes a stable descending sort, so the lower position wins a tie. ReLU
  makes exact ties (a key that no indexer head likes scores exactly 0), and torch.topk breaks them
  by the length of the row: the choice of a token would depend on how many tokens follow it.
* The indexer's inputs, scores and choices and the router's choices are recorded as they pass.

Source: transformers 5.23, `GlmMoeDsaIndexer.forward`, `DeepseekV32TopkRouter.forward`.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.golden import tiny_models


@dataclass
class Run:
    """What one forward pass computed and chose; layers are keyed by their number."""

    logits: np.ndarray
    """float32 [T, vocab]"""
    positions: dict[int, np.ndarray] = field(default_factory=dict)
    """int16 [T, min(index_topk, T)] of each full layer, ascending, -1 behind the last"""
    experts: dict[int, np.ndarray] = field(default_factory=dict)
    """int16 [T, A] of each layer with experts, ascending"""
    selection_margins: dict[int, np.ndarray] = field(default_factory=dict)
    """float32 [T]: how far each row is from another set, relative to its largest score"""
    router_margins: dict[int, np.ndarray] = field(default_factory=dict)
    """float32 [T]: the same for experts and groups, relative to the largest choice score"""
    attention_inputs: dict[int, np.ndarray] = field(default_factory=dict)
    """float32 [T, hidden]: what a full layer's attention and indexer read (after the norm)"""
    query_latents: dict[int, np.ndarray] = field(default_factory=dict)
    """float32 [T, q_lora_rank]: the query latent after its norm"""

    def smallest_margin(self) -> float:
        """The least margin of any row of any layer; infinite where nothing was chosen."""
        margins = [*self.selection_margins.values(), *self.router_margins.values()]
        return min((float(rows.min()) for rows in margins), default=float("inf"))


def load(config: tiny_models.Config, weights: tiny_models.Weights) -> PreTrainedModel:
    """Load weights through transformers' own checkpoint reader, in float32 and eager attention.

    The draft layer is left out: transformers has none for these models.
    """
    draft = f"model.layers.{config['num_hidden_layers']}."
    kept = {name: array for name, array in weights.items() if not name.startswith(draft)}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        save_file(kept, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            experts_implementation="eager",
            output_loading_info=True,
        )
    if report["missing_keys"] or report["mismatched_keys"] or report["unexpected_keys"]:
        raise ValueError(f"transformers did not read these weights as meant: {report}")
    return model.eval()


@torch.no_grad()
def run(
    model: PreTrainedModel,
    tokens: np.ndarray,
    forced_positions: dict[int, np.ndarray] | None = None,
) -> Run:
    """Run one sequence in one pass.

    Args:
        model: from `load`.
        tokens: token ids [T].
        forced_positions: rows as in `Run.positions` that the full layers must use instead of
            their own choice.
    """
    record = Run(logits=np.empty(0))
    with _stable_indexer(model, record, forced_positions or {}), _router_hooks(model, record):
        logits = model(torch.from_numpy(tokens)[None], use_cache=False).logits[0]
    record.logits = logits.float().numpy()
    return record


@contextmanager
def _stable_indexer(model: PreTrainedModel, record: Run, forced: dict[int, np.ndarray]) -> Iterator[None]:
    """Replace every indexer's forward by one that sorts stably and records."""
    indexers = [m for m in model.modules() if type(m).__name__.endswith("Indexer")]
    for indexer in indexers:
        indexer.forward = _recording_forward(indexer, record, forced.get(indexer.layer_idx))
    try:
        yield
    finally:
        for indexer in indexers:
            del indexer.forward


def _recording_forward(indexer: Any, record: Run, forced: np.ndarray | None) -> Any:
    original, layer = indexer.forward, indexer.layer_idx

    def forward(hidden_states: torch.Tensor, q_resid: torch.Tensor, *args: Any, **kw: Any) -> Any:
        with _stable_topk() as seen:
            chosen = original(hidden_states, q_resid, *args, **kw)[0]
        scores, products = seen["scores"][0], seen["products"][0]
        record.attention_inputs[layer] = hidden_states[0].float().numpy()
        record.query_latents[layer] = q_resid[0].float().numpy()
        record.positions[layer] = ascending_positions(chosen.numpy())
        record.selection_margins[layer] = selection_margins(scores, products, chosen.shape[-1])
        if forced is not None:
            record.positions[layer] = forced
            chosen = torch.from_numpy(np.where(forced < 0, forced[:, :1], forced))
        return chosen[None].to(torch.int32)

    return forward


@contextmanager
def _stable_topk() -> Iterator[dict[str, torch.Tensor]]:
    """Inside: `Tensor.topk` is a stable sort, and the scores and head products are kept."""
    topk, relu = torch.Tensor.topk, F.relu
    seen: dict[str, torch.Tensor] = {}

    def stable_topk(scores: torch.Tensor, k: int, dim: int = -1) -> Any:
        seen["scores"] = scores
        values, order = torch.sort(scores, dim=dim, descending=True, stable=True)
        return torch.return_types.topk((values[..., :k], order[..., :k]))

    def recording_relu(products: torch.Tensor) -> torch.Tensor:
        seen["products"] = products
        return relu(products)

    torch.Tensor.topk, F.relu = stable_topk, recording_relu
    try:
        yield seen
    finally:
        torch.Tensor.topk, F.relu = topk, relu


def ascending_positions(chosen: np.ndarray) -> np.ndarray:
    """Sort each row's positions and replace those after the row's own token by -1 at the end."""
    last = np.iinfo(np.int16).max
    visible = np.where(chosen <= np.arange(len(chosen))[:, None], chosen, last)
    ordered = np.sort(visible, axis=-1)
    return np.where(ordered == last, -1, ordered).astype(np.int16)


def selection_margins(scores: torch.Tensor, products: torch.Tensor, topk: int) -> np.ndarray:
    """Measure how near each row is to another choice, relative to its largest visible score.

    Usually the gap between the last score chosen and the first one not. Where both are exactly 0,
    because no head likes these keys, their order is fixed by position; the row is then as safe as
    the smallest score that is not 0, and as the least clear "no head likes it".

    Args:
        scores: index scores [T, S], masked.
        products: scaled products of each head before the ReLU [T, J, S].
        topk: positions chosen per row.
    """
    margins = np.full(len(scores), np.inf, dtype=np.float32)
    for row in range(topk, len(scores)):
        visible = scores[row, : row + 1].double()
        largest = visible.abs().max()
        last, first_out = torch.sort(visible, descending=True).values[topk - 1 : topk + 1]
        gap = (last - first_out) / largest
        if last == 0 and first_out == 0:
            heads = products[row, :, : row + 1].double()
            dislike = -heads[:, visible == 0].max(dim=0).values.min() / heads.abs().max()
            others = visible[visible != 0].abs()
            gap = torch.minimum(dislike, others.min() / largest if len(others) else dislike)
        margins[row] = float(gap)
    return margins


@contextmanager
def _router_hooks(model: PreTrainedModel, record: Run) -> Iterator[None]:
    routers = [
        (int(name.split(".")[2]), module)
        for name, module in model.named_modules()
        if type(module).__name__.endswith("TopkRouter")
    ]
    hooks = [module.register_forward_hook(_router_hook(layer, record)) for layer, module in routers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _router_hook(layer: int, record: Run) -> Any:
    def hook(router: Any, _: Any, result: tuple[torch.Tensor, ...]) -> None:
        choice = result[0].sigmoid() + router.e_score_correction_bias
        record.experts[layer] = np.sort(result[2].numpy(), axis=-1).astype(np.int16)
        record.router_margins[layer] = router_margins(choice, router.top_k, router.num_group, router.topk_group)

    return hook


def router_margins(choice: torch.Tensor, top_k: int, num_groups: int, topk_group: int) -> np.ndarray:
    """Measure how near each row is to other experts or groups, relative to its largest score."""
    grouped = choice.double().view(len(choice), num_groups, -1)
    group_scores = grouped.topk(2, dim=-1).values.sum(-1)
    margins = _gap(group_scores, topk_group) if topk_group < num_groups else torch.tensor(np.inf)
    chosen = group_scores.topk(topk_group, dim=-1).indices
    mask = torch.full_like(group_scores, -np.inf).scatter(1, chosen, 0.0)
    margins = torch.minimum(margins, _gap((grouped + mask[..., None]).flatten(1), top_k))
    return (margins / choice.abs().max(dim=-1).values).float().numpy()


def _gap(scores: torch.Tensor, k: int) -> torch.Tensor:
    ordered = torch.sort(scores, dim=-1, descending=True).values
    return ordered[:, k - 1] - ordered[:, k]
