"""A model reference becomes a model that runs: files, configuration, plan, weights, engine, text."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from longlens.cache.pages import PagePool
from longlens.chat.conversation import Conversation, conversation_of, json_file
from longlens.chat.sampling_defaults import SamplingDefaults, defaults_of_generation_config, defaults_of_gguf
from longlens.engine.engine import Engine
from longlens.engine.loop import EngineLimits
from longlens.errors import ConfigError, ParameterError
from longlens.formats.checkpoint import Checkpoint, open_checkpoint
from longlens.hub.reference import parse_reference, resolve_local
from longlens.kernels.choose import KernelChoice, KernelWish, choose_kernels
from longlens.kernels.host_memory import keep_freed_memory
from longlens.machine import Machine, detect_machine
from longlens.model.build import RunChoices, build_model
from longlens.model.config import ConfigReading, IndexerConfig, ModelConfig
from longlens.model.config_reading import read_config
from longlens.model.mla import AttentionPolicy
from longlens.model.needs import parameter_needs
from longlens.plan.packed import packed_in_catalog
from longlens.plan.plan import ComputeElement, Plan
from longlens.plan.planner import Wishes, check_runs, make_plan, padded_tokens
from longlens.weights.catalog import Catalog, build_catalog
from longlens.weights.resident import ResidentWeights

_DTYPES: dict[ComputeElement, torch.dtype] = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@dataclass(frozen=True)
class Opening:
    """How a model is to be opened.

    Attributes:
        reference: path of a file or folder.
        device: "auto", "cpu", or a CUDA device.
        wishes: what the plan is to respect.
        is_strict: unknown keys and tensors are errors.
        kernels: "auto", "native" (C++) or "plain" (torch).
    """

    reference: str
    device: str = "auto"
    wishes: Wishes = field(default_factory=Wishes)
    is_strict: bool = False
    kernels: KernelWish = "auto"


@dataclass(frozen=True)
class OpenedModel:
    """Everything of a model that runs.

    Attributes:
        name: file or folder name.
        config: from the checkpoint.
        plan: how it runs.
        machine: on what.
        choice: the kernels, and why these.
        engine: token ids in, events out.
        conversation: messages in, token ids out.
        sampling_defaults: how the checkpoint wants to be sampled.
        warnings: unknown keys and tensors, by name.
        load_s: seconds that opening took.
    """

    name: str
    config: ModelConfig
    plan: Plan
    machine: Machine
    choice: KernelChoice
    engine: Engine
    conversation: Conversation
    sampling_defaults: SamplingDefaults
    warnings: tuple[str, ...]
    load_s: float


def open_model(opening: Opening) -> OpenedModel:
    """Open a model: headers, plan, then weights.

    Raises:
        LonglensError: whatever of the above does not hold; the plan is refused before a weight is read.
    """
    started = time.perf_counter()
    path = resolve_local(parse_reference(opening.reference))
    with open_checkpoint(path) as checkpoint:
        reading = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys())
        catalog = build_catalog(parameter_needs(reading.config), checkpoint.tensors, checkpoint.layout)
        warnings = _warnings(reading, catalog, is_strict=opening.is_strict)
        machine = detect_machine()
        num_threads = min(opening.wishes.num_threads or machine.num_threads, machine.num_threads)
        choice = choose_kernels(opening.device, opening.kernels, num_threads)
        # Without packed weights the library has next to nothing to do, and the plan is that of plain kernels.
        packed = packed_in_catalog(catalog, choice.packed_types) or None
        plan = make_plan(reading.config, path.name, machine, str(choice.device), opening.wishes, packed)
        check_runs(plan)
        conversation = conversation_of(checkpoint)
        defaults = _sampling_defaults(checkpoint)
        engine = _engine(checkpoint, reading.config, catalog, choice, plan, conversation)
    seconds = time.perf_counter() - started
    return OpenedModel(
        name=path.name,
        config=reading.config,
        plan=plan,
        machine=machine,
        choice=choice,
        engine=engine,
        conversation=conversation,
        sampling_defaults=defaults,
        warnings=warnings,
        load_s=seconds,
    )


def _engine(
    checkpoint: Checkpoint,
    config: ModelConfig,
    catalog: Catalog,
    choice: KernelChoice,
    plan: Plan,
    conversation: Conversation,
) -> Engine:
    torch.set_num_threads(plan.num_threads)
    keep_freed_memory()
    weights = ResidentWeights(
        checkpoint, catalog, choice.device, _DTYPES[plan.compute_element], packed_types=choice.packed_types
    )
    choices = RunChoices(plan.cache_element, _policy(config.indexer, plan))
    model = build_model(config, weights, choice.kernels, choices)
    spec = model.cache_spec
    num_pages = padded_tokens(plan.context, spec) // spec.page_tokens * plan.num_sequences
    pool = PagePool(spec, num_pages, device=choice.device)
    stop_ids = conversation.tokenizer.stop_ids
    return Engine(model, pool, EngineLimits(plan.chunk_tokens, plan.context, frozenset(stop_ids)))


def _sampling_defaults(checkpoint: Checkpoint) -> SamplingDefaults:
    if checkpoint.layout == "gguf":
        return defaults_of_gguf(checkpoint.metadata)
    return defaults_of_generation_config(json_file(checkpoint, "generation_config.json") or {})


def _policy(indexer: IndexerConfig | None, plan: Plan) -> AttentionPolicy | None:
    if indexer is None or plan.gather_above_tokens is None:
        return None
    return AttentionPolicy(plan.gather_above_tokens)


def _warnings(reading: ConfigReading, catalog: Catalog, *, is_strict: bool) -> tuple[str, ...]:
    if is_strict and reading.unknown_keys:
        raise ConfigError(
            f"unknown configuration keys: {', '.join(reading.unknown_keys)}", "leave out --strict to go on without them"
        )
    if is_strict and catalog.unknown:
        raise ParameterError(
            f"unknown tensors: {', '.join(catalog.unknown)}", "leave out --strict to go on without them"
        )
    keys = [f"unknown configuration key {key}" for key in reading.unknown_keys]
    return (*keys, *(f"unknown tensor {name}" for name in catalog.unknown))
