"""The model that comes along: what it is, and that it finds definitions in a repository it has never seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import longlens
from longlens import SamplingParams
from longlens.ask.answer import RepositoryAnswer, RepositoryQuestion, answer, prepare
from longlens.chat.facade import Asking, LoadedModel
from longlens.hub.reference import POCKET_FILE
from longlens.model.needs import num_parameters

VERBS = ("fold", "sort", "send", "close", "merge", "count", "paint", "weigh", "drain", "carve", "lift", "bind")
NOUNS = ("river", "table", "packet", "garden", "window", "ladder", "bridge", "kettle")


@pytest.fixture(scope="module")
def pocket() -> Iterator[LoadedModel]:
    with longlens.load("pocket", device="cpu", context=8192) as model:
        yield model


def make_unseen_repository(root: Path) -> dict[str, str]:
    """Eight files of functions with made-up names; where each is defined, as path:line."""
    places = {}
    for number, noun in enumerate(NOUNS):
        lines = [f'"""Work on a {noun}."""', "", "import math", ""]
        for verb in VERBS[number % 3 :: 2]:
            name = f"{verb}_{noun}"
            places[name] = f"src/{noun}.py:{len(lines) + 1}"
            lines += [f"def {name}(first, second={number}):", f"    total = first + {number}", "    return total", ""]
        path = root / "src" / f"{noun}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    return places


def test_it_is_the_architecture_in_small(pocket: LoadedModel) -> None:
    config = pocket.config
    assert config.architecture == "glm_moe_dsa"
    assert config.indexer is not None
    assert config.moe is not None
    assert "".join("F" if full else "S" for full in config.indexer.is_full) == "FFFSSSFS"
    assert config.indexer.index_topk <= 512
    assert 8 <= config.moe.n_routed_experts <= 16
    assert config.num_nextn_predict_layers == 1
    assert num_parameters(config) <= 15_000_000
    assert POCKET_FILE.stat().st_size <= 16_000_000


def test_it_finds_definitions_it_has_never_seen(pocket: LoadedModel, tmp_path: Path) -> None:
    places = make_unseen_repository(tmp_path)
    asked = sorted(places)[::5]
    assert len(asked) >= 8
    right = 0
    for name in asked:
        ready = prepare(pocket, RepositoryQuestion(tmp_path, f"Where is `{name}` defined?", answer_tokens=24))
        *events, result = answer(pocket, ready, SamplingParams(max_tokens=24), Asking())
        assert isinstance(result, RepositoryAnswer)
        text = "".join(event.text for event in events if isinstance(event, longlens.TextDelta))
        right += text.strip() == places[name]
    assert right >= 0.8 * len(asked)


def test_the_packs_it_reads_are_longer_than_it_may_select(pocket: LoadedModel, tmp_path: Path) -> None:
    make_unseen_repository(tmp_path)
    ready = prepare(pocket, RepositoryQuestion(tmp_path, "Where is `fold_river` defined?", answer_tokens=24))
    assert pocket.plan.gather_above_tokens is not None
    assert len(ready.prompt.token_ids) > pocket.plan.gather_above_tokens


def test_what_is_not_there_is_said_to_be_absent(pocket: LoadedModel, tmp_path: Path) -> None:
    make_unseen_repository(tmp_path)
    ready = prepare(pocket, RepositoryQuestion(tmp_path, "Where is `polish_moon` defined?", answer_tokens=24))
    *events, _ = answer(pocket, ready, SamplingParams(max_tokens=24), Asking())
    text = "".join(event.text for event in events if isinstance(event, longlens.TextDelta))
    assert text.strip() == "Not in these files."
