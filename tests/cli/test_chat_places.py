from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import longlens
from longlens import SamplingParams
from longlens.chat.conversation import ChatOptions
from longlens.chat.dialogue import Dialogue
from longlens.chat.facade import Asking, LoadedModel
from longlens.chat.request import Finished
from longlens.cli.chat_attachments import Attachments
from longlens.cli.chat_places import MOST_ANSWERS_KEPT, ChatPlaces
from longlens.engine.sequence import CancelFlag
from tests.cli.terminal import FIXTURES, TINY

PLAIN = ChatOptions(template={"enable_thinking": False})
GREEDY = SamplingParams(max_tokens=4, ignore_eos=True)
SOURCE = "".join(f"def name_{number}(x):\n    return x + {number}\n" for number in range(8))


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    with longlens.load(TINY, device="cpu", context=512) as opened:
        yield opened


@pytest.fixture
def dialogue(model: LoadedModel) -> Iterator[Dialogue]:
    with Dialogue(model, options=PLAIN) as fresh:
        yield fresh


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(SOURCE.replace("name", name[0]))
    return tmp_path


def ask(dialogue: Dialogue, places: ChatPlaces, text: str, *files: str, params: SamplingParams = GREEDY) -> Finished:
    waiting = Attachments(dialogue.count_tokens, lambda: dialogue.max_context)
    for file in files:
        waiting.add_file(file)
    asking = Asking(on_selection=places.watch())
    *_, last = dialogue.ask(waiting.before(text), params, asking, tuple(waiting.files()))
    assert isinstance(last, Finished)
    return last


def named(places: ChatPlaces) -> set[str]:
    """The files that are listed."""
    first, *lines = places.lines()
    assert first == "looked at:", first
    return {line.split(":")[0].strip() for line in lines if ".py" in line}


def only(places: ChatPlaces) -> str:
    (line,) = places.lines()
    return line


def test_files_and_lines_are_listed_with_their_shares(dialogue: Dialogue, folder: Path) -> None:
    places = ChatPlaces(dialogue)
    ask(dialogue, places, "why?", "a.py")
    first, *listed, last = places.lines()
    assert first == "looked at:"
    assert listed
    for line in listed[:-1]:
        name, share = line.split()
        path, lines = name.split(":")
        assert path == "a.py"
        assert all(1 <= int(number) <= 16 for number in lines.split("-"))
        assert share.endswith("%")
    assert "of all looks went to the files" in last
    assert 0.5 < float(last.partition("%")[0]) / 100 <= 1


def test_watching_changes_no_token(model: LoadedModel, folder: Path) -> None:
    found = []
    for is_watched in (True, False):
        with Dialogue(model, options=PLAIN) as dialogue:
            places = ChatPlaces(dialogue)
            for file in ("a.py", "b.py"):
                if is_watched:
                    ask(dialogue, places, "why?", file)
                else:
                    list(dialogue.ask(found[0][2][len(dialogue.exchanges)], GREEDY, Asking()))
            questions = [exchange.question for exchange in dialogue.exchanges]
            found.append((dialogue.token_ids, dialogue._session.logits(), questions))
    (watched, watched_logits_V, _), (plain, plain_logits_V, _) = found
    assert watched == plain
    assert torch.equal(watched_logits_V, plain_logits_V)


def test_every_token_of_an_answer_is_counted_the_first_one_too(dialogue: Dialogue, folder: Path) -> None:
    places = ChatPlaces(dialogue)
    ask(dialogue, places, "why?", "a.py", params=SamplingParams(max_tokens=1, ignore_eos=True))
    assert places._looks[0].counter.num_selections == 3, "the fixture has three full layers"
    list(dialogue.answer_again(GREEDY, Asking(on_selection=places.watch())))
    assert places._looks[0].counter.num_selections == 4 * 3, "another answer's counts take the place"
    assert named(places) == {"a.py"}


def test_files_of_earlier_turns_count_and_those_of_dropped_ones_do_not(dialogue: Dialogue, folder: Path) -> None:
    places = ChatPlaces(dialogue)
    ask(dialogue, places, "why?", "a.py")
    of_first = list(places.lines())
    ask(dialogue, places, "and?", "b.py")
    assert named(places) == {"a.py", "b.py"}
    dialogue.rewind(1)
    assert list(places.lines()) == of_first
    ask(dialogue, places, "again?")
    assert named(places) == {"a.py"}
    dialogue.rewind(2)
    assert only(places) == "no places yet: there is no answer"
    ask(dialogue, places, "and b?", "b.py")
    assert named(places) == {"b.py"}


def test_a_file_of_a_message_that_waited_counts(dialogue: Dialogue, folder: Path) -> None:
    places, flag = ChatPlaces(dialogue), CancelFlag()
    waiting = Attachments(dialogue.count_tokens, lambda: dialogue.max_context)
    waiting.add_file("a.py")
    flag.cancel()
    with pytest.raises(longlens.LonglensError):
        list(dialogue.ask(waiting.before("why?"), GREEDY, Asking(cancel=flag), tuple(waiting.files())))
    assert "/regen gives it one" in only(places)
    ask(dialogue, places, "and?", "b.py")
    assert len(dialogue.exchanges) == 1
    assert named(places) == {"a.py", "b.py"}


def test_an_answer_that_is_stopped_has_the_places_so_far(dialogue: Dialogue, folder: Path) -> None:
    places, flag = ChatPlaces(dialogue), CancelFlag()
    waiting = Attachments(dialogue.count_tokens, lambda: dialogue.max_context)
    waiting.add_file("a.py")
    endless = SamplingParams(ignore_eos=True)
    asking = Asking(cancel=flag, on_selection=places.watch())
    for _ in dialogue.ask(waiting.before("why?"), endless, asking, tuple(waiting.files())):
        flag.cancel()
    assert not dialogue.is_unanswered
    assert dialogue.num_tokens < dialogue.max_context
    assert named(places) == {"a.py"}


def test_a_message_that_is_refused_leaves_the_counts(dialogue: Dialogue, folder: Path) -> None:
    places = ChatPlaces(dialogue)
    ask(dialogue, places, "why?", "a.py")
    before = list(places.lines())
    with pytest.raises(longlens.LonglensError):
        ask(dialogue, places, "long " * 400)
    assert list(places.lines()) == before


def test_each_reason_to_have_no_places_is_said_in_a_line(dialogue: Dialogue, folder: Path) -> None:
    places = ChatPlaces(dialogue)
    assert only(places) == "no places yet: there is no answer"
    ask(dialogue, places, "long " * 20)
    assert "was given no files" in only(places)
    dialogue.rewind(1)
    (folder / "c").write_text("x")
    ask(dialogue, places, "y", "c")
    line = only(places)
    assert f"selects {dialogue.index_topk} for each token" in line
    assert line.startswith(f"no places: the prompt has {dialogue.num_tokens - 4} tokens")


def test_a_model_without_an_indexer_has_no_places(folder: Path) -> None:
    with (
        longlens.load(str(FIXTURES / "tiny-llama-Q8_0.gguf"), device="cpu", context=512) as llama,
        Dialogue(llama) as talk,
    ):
        places = ChatPlaces(talk)
        assert "has no indexer" in only(places)
        ask(talk, places, "why?", "a.py")
        assert "has no indexer" in only(places)


@pytest.mark.parametrize(("filter_name", "is_known"), [("trim", True), ("upper", False)])
def test_a_template_may_trim_messages_but_not_change_files(folder: Path, filter_name: str, is_known: bool) -> None:
    copied = Path(shutil.copytree(FIXTURES / "tiny-glm", folder / "model"))
    template = copied / "chat_template.jinja"
    text = template.read_text()
    before = "<|user|>{{ text_of(message.content)"
    assert before in text
    template.write_text(text.replace(before, f"{before} | {filter_name}"))
    with longlens.load(str(copied), device="cpu", context=512) as other, Dialogue(other, options=PLAIN) as talk:
        places = ChatPlaces(talk)
        ask(talk, places, "why? \n ", "a.py")
        if is_known:
            assert named(places) == {"a.py"}
        else:
            assert "does not write the files' text as it is" in only(places)


def test_counts_of_the_last_answers_are_kept(dialogue: Dialogue) -> None:
    places = ChatPlaces(dialogue)
    for number in range(MOST_ANSWERS_KEPT + 2):
        ask(dialogue, places, str(number), params=SamplingParams(max_tokens=1, ignore_eos=True))
    assert sorted(places._looks) == list(range(2, MOST_ANSWERS_KEPT + 2))
    dialogue.rewind(MOST_ANSWERS_KEPT)
    assert f"the last {MOST_ANSWERS_KEPT} answers" in only(places)
