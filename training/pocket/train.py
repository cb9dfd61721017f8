"""Train pocket within a budget of wall-clock seconds.

    PYTHONPATH=src python -m training.pocket.train --data FOLDER --out FOLDER --seconds 540
    PYTHONPATH=src python -m training.pocket.train --data FOLDER --out FOLDER --seconds 60 --smoke     (CPU)

FOLDER of data holds tokenizer.json and the two arrays files. Stages follow each other by the clock: dense attention at
short and longer lengths while the indexers learn from attention, then the model's own selection. `--resume` goes on
from the weights of an earlier run (the optimiser warms up again).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longlens.model.config import ModelConfig
from longlens.model.config_huggingface import read_huggingface_config
from training.pocket import checkpoint, evaluation
from training.pocket.loader import Batch, batches
from training.pocket.model import TrainableModel, fresh_parameters
from training.pocket.optimiser import Optimiser, balance
from training.pocket.packs import Packer, Recipe
from training.pocket.shelf import Shelf, Vocabulary

HERE = Path(__file__).parent
LM_WEIGHT, DRAFT_WEIGHT, INDEX_WEIGHT = 0.6, 0.1, 1.0
WARM_STEPS, LAST_SHARE = 100, 0.04
DRAFT_EVERY = 4
SAVE_EVERY_SECONDS = 60
_FAILURES = (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, AssertionError)
SPAN = 131_072
PROMPTS = ("def read_file(path", "class Server:\n    def __init__(self", "import os\n\n", '    """Return the')


@dataclass(frozen=True)
class Stage:
    """A part of the run: attention, length, and the share of the training time at which it ends."""

    is_sparse: bool
    tokens: int
    end: float

    @classmethod
    def read(cls, text: str) -> Stage:
        kind, tokens, end = text.split(":")
        return cls(kind == "sparse", int(tokens), float(end))


class Run:
    """The state of a training run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began = time.monotonic()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.vocabulary = Vocabulary.read(options.data / "tokenizer.json")
        self.config = model_config(options.smoke)
        self.topk = None if self.config.indexer is None else self.config.indexer.index_topk
        self.log_file = (options.out / "train.jsonl").open("a")
        self.step = 0
        self.saved = self.began
        self.is_eager = options.compile == "none"
        self.decay_from = 0.0

    def log(self, **entry: Any) -> None:
        """One line into the log and one for the terminal."""
        line = json.dumps({"seconds": round(self.seconds(), 1), "step": self.step} | entry)
        self.log_file.write(line + "\n")
        self.log_file.flush()
        print(line, flush=True)

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def prepare(self, stages: list[Stage]) -> None:
        """Read the data, start the loaders of every stage before the device is touched, make the model."""
        options = self.options
        held = Shelf.read(options.data / "held.npz.xz", self.vocabulary.newline)
        shelf = held if options.smoke else Shelf.read(options.data / "train.npz.xz", self.vocabulary.newline)
        packer = Packer(shelf, self.vocabulary)
        self.held, self.held_packer = held, packer if options.smoke else Packer(held, self.vocabulary)
        self.loaders = [
            batches(packer, self.recipe(stage), options.batch // stage.tokens, options.workers, seed)
            for seed, stage in enumerate(stages, start=options.seed)
        ]
        self.log(event="data", tokens=len(shelf.tokens), files=shelf.num_files, device=str(self.device))
        parameters = (
            checkpoint.load(self.config, options.resume)
            if options.resume
            else fresh_parameters(self.config, options.seed, torch.device("cpu"))
        )
        parameters = {name: value.to(self.device) for name, value in parameters.items()}
        compute = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = TrainableModel(self.config, parameters, compute)
        self.model.measures_recall = False
        self.plain_model = TrainableModel(self.config, parameters, compute)
        self.optimiser = Optimiser(parameters)
        if options.compile != "none":
            self.model.compile(backend=options.compile)

    def recipe(self, stage: Stage) -> Recipe:
        """What a stage reads: short packs are mostly definitions, longer ones mostly whole runs of files."""
        short = stage.tokens <= 1024
        span = SPAN if stage.tokens > 1024 else SPAN // 8
        return Recipe(
            stage.tokens, skeleton=0.7 if short else 0.3, plain=0.2, span=span, rows=max(4, stage.tokens // 16)
        )

    def share(self) -> float:
        """Share of the full learning rates now: warm up, stay, fall."""
        warm = min(1.0, (self.step + 1) / WARM_STEPS)
        progress = self.seconds() / self.train_until
        fall = min(1.0, max(0.0, (progress - self.decay_from) / (1 - self.decay_from)))
        return warm * (1 - (1 - LAST_SHARE) * fall) * float(self.options.rate)

    def train(self, stages: list[Stage]) -> None:
        """Run the stages by the clock."""
        start = self.seconds()
        self.train_until = self.options.seconds - self.options.reserve
        self.decay_from = self.options.decay_from
        for stage, loader in zip(stages, self.loaders, strict=True):
            self.run_stage(stage, loader, start + (self.train_until - start) * stage.end)
            topk = self.topk if stage.is_sparse else None
            self.log(event="stage", tokens=stage.tokens, is_sparse=stage.is_sparse, **self.quick_answers(stage, topk))
            self.save()

    def save(self) -> None:
        checkpoint.save(self.config, self.model.parameters, self.options.out)
        self.saved = time.monotonic()

    def quick_answers(self, stage: Stage, topk: int | None) -> dict[str, float]:
        packs = 8 if self.options.smoke else 65536 // stage.tokens
        return evaluation.answers(self.plain_model, self.held_packer, (stage.tokens, packs, 0.3), topk)

    def run_stage(self, stage: Stage, loader: Iterator[Batch], until: float) -> None:
        sums: dict[str, torch.Tensor] = {}
        since, first = time.monotonic(), self.step
        begin, waited = self.step + 1, 0.0
        while self.seconds() < until:
            asked = time.monotonic()
            batch = {key: torch.from_numpy(value).to(self.device) for key, value in next(loader).items()}
            waited += time.monotonic() - asked
            for key, value in self.guarded_step(batch, stage).items():
                sums[key] = sums.get(key, torch.zeros((), device=self.device)) + value
            self.step += 1
            every = 2 if self.options.smoke else 50
            if self.step % every == 0 or self.step == begin:
                count = self.step - first
                means = {key: round(float(value) / count, 4) for key, value in sums.items()}
                took = (time.monotonic() - since) / count
                rate = round(self.options.batch / took)
                self.log(**means, rate=rate, waited=round(waited / count, 4), share=round(self.share(), 4))
                sums, since, first, waited = {}, time.monotonic(), self.step, 0.0
            if time.monotonic() - self.saved > SAVE_EVERY_SECONDS:
                self.save()

    def guarded_step(self, batch: dict[str, torch.Tensor], stage: Stage) -> dict[str, torch.Tensor]:
        """`train_step`; if the compiler fails, the log says so and the run goes on without: it cannot be repeated."""
        try:
            return self.train_step(batch, stage)
        except _FAILURES as error:
            if self.is_eager:
                raise
            self.log(event="compiler failed", error=f"{type(error).__name__}: {error}"[:1500])
            self.is_eager = True
            self.model = TrainableModel(self.config, self.model.parameters, self.model.compute)
            self.model.measures_recall = False
            torch._dynamo.reset()
            for parameter in self.model.parameters.values():
                parameter.grad = None
            return self.train_step(batch, stage)

    def train_step(self, batch: dict[str, torch.Tensor], stage: Stage) -> dict[str, torch.Tensor]:
        """One update; the means of its losses, still on the device."""
        ids, targets = batch["ids"][:, :-1], batch["ids"][:, 1:].flatten()
        topk = self.topk if stage.is_sparse else None
        result = self.model.forward(ids, batch["positions"], batch["rows"], topk=topk)
        losses = self.model.losses(result.hidden_ND, targets)
        means = {
            "lm": masked_mean(losses, batch["lm"][:, 1:]),
            "answer": masked_mean(losses, batch["answer"][:, 1:]),
        }
        total = LM_WEIGHT * means["lm"] + means["answer"]
        if result.index_loss is not None:
            means["index"] = result.index_loss
            total = total + INDEX_WEIGHT * result.index_loss
        total.backward()
        loads = dict(result.loads)
        if stage.is_sparse and self.step % DRAFT_EVERY == 0:
            loads |= self.draft_step(batch, result.hidden_ND, topk)
        self.optimiser.step(self.share(), 0.85 + 0.1 * min(1.0, self.step / 300))
        balance(self.model.parameters, loads)
        deepest = loads[max(result.loads)]
        return {key: value.detach() for key, value in means.items()} | {"busiest": deepest.max() / deepest.mean()}

    def draft_step(
        self, batch: dict[str, torch.Tensor], trunk_ND: torch.Tensor, topk: int | None
    ) -> dict[int, torch.Tensor]:
        """Train the multi-token prediction block lightly: the token after the next, from detached rows."""
        following = batch["ids"].roll(-2, 1)[:, :-1].clone()
        mask = (batch["lm"] | batch["answer"]).roll(-2, 1)[:, :-1].clone()
        mask[:, -1:] = 0
        drafted = self.model.draft(trunk_ND, (batch["ids"][:, 1:], batch["positions"], batch["rows"]), topk)
        loss = masked_mean(self.model.losses(drafted.hidden_ND, following.flatten()), mask)
        total = DRAFT_WEIGHT * loss
        if drafted.index_loss is not None:
            total = total + INDEX_WEIGHT * drafted.index_loss
        total.backward()
        if self.step % 200 < DRAFT_EVERY:
            self.log(event="draft", loss=float(loss.detach()))
        return drafted.loads

    def report(self) -> None:
        """Evaluate with the weights as stored, and write report.json."""
        parameters = {
            name: value.to(self.device) for name, value in checkpoint.load(self.config, self.options.out).items()
        }
        model = TrainableModel(self.config, parameters, self.plain_model.compute)
        smoke = self.options.smoke
        tokens = evaluation.held_out_tokens(self.held, self.vocabulary, 20_000 if smoke else 1_000_000)
        found: dict[str, Any] = {"tokens": len(tokens), "steps": self.step}
        for window, topk in ((1024, None), (4096, None), (4096, self.topk)):
            if not smoke or window == 1024:
                name = f"bits_per_byte_{window}{'' if topk is None else '_sparse'}"
                found[name] = evaluation.bits_per_byte(model, tokens, self.vocabulary, window, topk)
                self.log(**{name: found[name]})
        for length in (1024,) if smoke else (1024, 4096, 8192):
            for topk in (None, self.topk):
                setting = (length, 4 if smoke else max(24, 131072 // length), 0.0)
                name = f"where_{length}{'' if topk is None else '_sparse'}"
                found[name] = evaluation.answers(model, self.held_packer, setting, topk)
                self.log(**{name: found[name]})
        found["samples"] = [self.sample(model, prompt) for prompt in PROMPTS]
        (self.options.out / "report.json").write_text(json.dumps(found, indent=1) + "\n")

    def sample(self, model: TrainableModel, prompt: str) -> str:
        count = 4 if self.options.smoke else 90
        # Documents begin after an end-of-text token; without it a prompt is the middle of nothing.
        given = [self.vocabulary.control["<|endoftext|>"], *self.vocabulary.encode(prompt)]
        ids = evaluation.sample(model, given, count, 0.8, self.topk)
        text = prompt + self.vocabulary.tokenizer.decode(ids, skip_special_tokens=False)
        self.log(sample=text)
        return text


def masked_mean(losses_N: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.flatten().to(losses_N.dtype)
    return (losses_N * weights).sum() / weights.sum().clamp(min=1)


def model_config(is_smoke: bool) -> ModelConfig:  # noqa: FBT001
    """The committed config.json; a much smaller one of the same kind for smoke runs."""
    values = json.loads((HERE / "config.json").read_text())
    if is_smoke:
        values |= {"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32, "index_topk": 64}
    return read_huggingface_config(values).config


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=540, help="wall-clock budget, from the start of this program")
    parser.add_argument("--reserve", type=float, default=45, help="seconds of it kept for the evaluation")
    parser.add_argument("--stages", default="dense:1024:0.24,dense:4096:0.62,sparse:4096:1")
    parser.add_argument("--decay-from", type=float, default=0.55, help="share of the budget after which rates fall")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on all learning rates")
    parser.add_argument("--batch", type=int, default=98304, help="tokens a step")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="folder with the shards of an earlier run")
    parser.add_argument("--compile", default="inductor", help="backend of torch.compile, or none")
    parser.add_argument("--smoke", action="store_true", help="a tiny model on the held-out data")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.recompile_limit = 64
    torch.backends.cuda.enable_cudnn_sdp(False)
    random.seed(chosen.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    stages = [Stage.read(text) for text in chosen.stages.split(",")]
    run = Run(chosen)
    run.prepare(stages)
    try:
        run.train(stages)
    except _FAILURES as error:
        # What was saved is worth a report: the run cannot be repeated.
        run.log(event="training failed", error=f"{type(error).__name__}: {error}"[:1500])
        if not list(chosen.out.glob("*.safetensors")):
            raise
        torch.cuda.empty_cache()
    run.report()
    run.log(event="done")


if __name__ == "__main__":
    main()
