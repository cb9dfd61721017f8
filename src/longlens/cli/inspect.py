"""`longlens inspect`: what a checkpoint holds, from its headers alone."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from longlens.cli.diagram import draw_schedule
from longlens.cli.messages import print_fault, print_note, print_warning
from longlens.cli.write_file import write_whole
from longlens.errors import ModelFileError, UsageError
from longlens.formats.checkpoint import Checkpoint, open_checkpoint
from longlens.hub.reference import parse_reference, resolve_local
from longlens.model.config import ConfigReading
from longlens.model.config_reading import read_config
from longlens.model.needs import parameter_needs
from longlens.units import format_bytes
from longlens.weights.catalog import Catalog, build_catalog


@dataclass(frozen=True)
class Findings:
    """What could be read; `problem` says why the rest could not."""

    reading: ConfigReading | None
    catalog: Catalog | None
    problem: ModelFileError | None


@click.command(help="Show what a checkpoint holds. Only headers are read, so any size opens at once.")
@click.argument("model", metavar="MODEL", required=False)
@click.option("-m", "--model", "model_option", metavar="MODEL", help="the same as MODEL")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option("--diagram", type=click.Path(dir_okay=False, path_type=Path), help="draw the full/shared schedule (SVG)")
@click.option("--strict", is_flag=True, help="unknown keys and tensors are errors")
def COMMAND(  # noqa: N802  (the name under which every command module offers its command)
    *, model: str | None, model_option: str | None, as_json: bool, diagram: Path | None, strict: bool
) -> int:
    """Open a checkpoint and describe it."""
    if (model is None) == (model_option is None):
        raise UsageError("inspect takes one model", "longlens inspect FILE, or longlens inspect -m FILE")
    with open_checkpoint(resolve_local(parse_reference(model or model_option or ""))) as checkpoint:
        findings = find(checkpoint)
        if as_json:
            json.dump(describe(checkpoint, findings), sys.stdout, ensure_ascii=False, indent=2)
            sys.stdout.write("\n")
        else:
            sys.stdout.write(summarise(checkpoint, findings))
        if diagram is not None:
            _write_diagram(diagram, checkpoint, findings)
    return _report(findings, is_strict=strict)


def find(checkpoint: Checkpoint) -> Findings:
    """Read the configuration and match the tensors; stop where the checkpoint stops making sense."""
    reading = None
    try:
        reading = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys())
        catalog = build_catalog(parameter_needs(reading.config), checkpoint.tensors, checkpoint.layout)
    except ModelFileError as problem:
        return Findings(reading, None, problem)
    return Findings(reading, catalog, None)


def describe(checkpoint: Checkpoint, findings: Findings) -> dict[str, object]:
    """The JSON object of `inspect --json`."""
    return {
        "architecture": _architecture(checkpoint),
        "config": asdict(findings.reading.config) if findings.reading else None,
        "tensors": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "type": tensor.element_type.name,
                "bytes": tensor.num_bytes,
                "shard": tensor.shard,
            }
            for tensor in checkpoint.tensors.values()
        ],
        "quantisation": dict(_parameters_by_type(checkpoint).most_common()),
        "parameters": sum(tensor.num_elements for tensor in checkpoint.tensors.values()),
        "bytes": checkpoint.total_bytes,
        "shards": [shard.name for shard in checkpoint.shards],
        "unknown_keys": list(findings.reading.unknown_keys) if findings.reading else [],
        "unknown_tensors": list(findings.catalog.unknown) if findings.catalog else [],
        "problem": {"fault": findings.problem.fault, "hint": findings.problem.mend} if findings.problem else None,
    }


def summarise(checkpoint: Checkpoint, findings: Findings) -> str:
    """The same for people, tensors left to `--json`."""
    parameters = sum(tensor.num_elements for tensor in checkpoint.tensors.values())
    shards = len(checkpoint.shards)
    lines = [
        f"file          {checkpoint.path} ({checkpoint.layout}, {shards} shard{'s' if shards > 1 else ''})",
        f"architecture  {_architecture(checkpoint)}",
        f"parameters    {parameters:,} in {len(checkpoint.tensors):,} tensors",
        f"bytes         {format_bytes(checkpoint.total_bytes)}",
    ]
    counts = _parameters_by_type(checkpoint)
    lines += [
        f"  {name:<12}{count / max(parameters, 1):7.1%} of the parameters" for name, count in counts.most_common()
    ]
    if findings.reading is not None:
        lines += _config_lines(findings.reading)
    if findings.catalog is not None and findings.catalog.has_mtp:
        lines.append("MTP           its layer is in the file and is kept, not run")
    return "\n".join(lines) + "\n"


def _config_lines(reading: ConfigReading) -> list[str]:
    config = reading.config
    lines = [
        f"layers        {config.num_hidden_layers}, hidden {config.hidden_size}, vocabulary {config.vocab_size:,}",
        f"context       {config.max_position_embeddings:,} tokens",
    ]
    if config.indexer is not None:
        full = config.indexer.full_layers
        lines.append(f"indexer       top-k {config.indexer.index_topk} on {len(full)} full layers: {_ranges(full)}")
    if config.moe is not None:
        moe = config.moe
        lines.append(
            f"experts       {moe.n_routed_experts}, {moe.num_experts_per_tok} a token, {moe.n_shared_experts} shared, "
            f"on {sum(moe.is_sparse)} layers"
        )
    return lines


def _ranges(numbers: tuple[int, ...]) -> str:
    if len(numbers) <= 24:
        return ", ".join(map(str, numbers))
    return f"{', '.join(map(str, numbers[:12]))}, ... {numbers[-1]}"


def _architecture(checkpoint: Checkpoint) -> str:
    key = "general.architecture" if checkpoint.layout == "gguf" else "model_type"
    return str(checkpoint.metadata.get(key, "not named"))


def _parameters_by_type(checkpoint: Checkpoint) -> Counter[str]:
    counts: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        counts[tensor.element_type.name] += tensor.num_elements
    return counts


def _write_diagram(path: Path, checkpoint: Checkpoint, findings: Findings) -> None:
    if findings.reading is None:
        raise findings.problem or UsageError("there is no configuration to draw", "see longlens inspect without it")
    write_whole(path, draw_schedule(findings.reading.config, checkpoint.path.name))
    print_note(f"wrote {path}")


def _report(findings: Findings, *, is_strict: bool) -> int:
    if findings.problem is not None:
        print_fault(findings.problem.fault, findings.problem.mend)
        return 1
    unknown = [f"unknown key {key}" for key in (findings.reading.unknown_keys if findings.reading else ())]
    unknown += [f"unknown tensor {name}" for name in (findings.catalog.unknown if findings.catalog else ())]
    for line in unknown:
        print_warning(line)
    return 1 if unknown and is_strict else 0
