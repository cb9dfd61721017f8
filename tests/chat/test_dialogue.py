from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import longlens
from longlens import SamplingParams
from longlens.chat.conversation import ChatOptions
from longlens.chat.dialogue import Dialogue, Exchange, FileSpan, adopt_spelling, common_prefix
from longlens.chat.facade import Asking, LoadedModel
from longlens.chat.opening import Opening, open_model
from longlens.chat.request import ChatEvent, Finished, Usage
from longlens.engine.sequence import CancelFlag
from longlens.errors import CancelledError, ContextLengthError, TemplateError, UsageError
from longlens.plan.planner import Wishes
from longlens.text.messages import Message
from longlens.text.reply import ReasoningDelta, TextDelta

FIXTURE = Path(__file__).parents[1] / "fixtures" / "tiny-glm-F32.gguf"
PLAIN = ChatOptions(template={"enable_thinking": False})
CHUNK = 64


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    wishes = Wishes(context=512, chunk_tokens=CHUNK)
    with LoadedModel(open_model(Opening(str(FIXTURE), "cpu", wishes))) as opened:
        yield opened


@pytest.fixture
def dialogue(model: LoadedModel) -> Iterator[Dialogue]:
    with Dialogue(model, system="Be kind.", options=PLAIN) as fresh:
        yield fresh


def letters_only(model: LoadedModel, num_tokens: int = 8) -> SamplingParams:
    """An untrained model writes bytes; this one writes words, each token a letter or more of them."""
    tokenizer = model.opened.conversation.tokenizer
    size = model.config.vocab_size
    banned = [token for token in range(size) if not tokenizer.token_bytes(token).isalpha()]
    return SamplingParams(max_tokens=num_tokens, logit_bias=dict.fromkeys(banned, -math.inf))


def heard(events: Iterator[ChatEvent]) -> tuple[str, Usage]:
    text, usage = "", None
    for event in events:
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, Finished):
            usage = event.usage
    assert usage is not None
    return text, usage


def num_tokens_of(model: LoadedModel, dialogue: Dialogue) -> int:
    return len(model.encode(dialogue.messages, PLAIN).token_ids)


def test_a_second_message_reads_only_what_is_new(model: LoadedModel, dialogue: Dialogue) -> None:
    params = letters_only(model)
    answer, first = heard(dialogue.ask("hello", params, Asking()))
    _, second = heard(dialogue.ask("and then?", params, Asking()))
    assert answer
    assert first.cached_tokens == 0
    assert second.cached_tokens == first.prompt_tokens + first.completion_tokens - 1, "all but the last answer token"
    assert second.read_tokens == second.prompt_tokens - second.cached_tokens


def test_answering_again_computes_one_row(model: LoadedModel, dialogue: Dialogue) -> None:
    params = letters_only(model)
    answer, first = heard(dialogue.ask("hello", params, Asking()))
    again, second = heard(dialogue.answer_again(params, Asking()))
    assert again == answer
    assert (second.prompt_tokens, second.read_tokens) == (first.prompt_tokens, 1)
    assert len(dialogue.exchanges) == 1


def test_another_answer_replaces_the_first(model: LoadedModel, dialogue: Dialogue) -> None:
    heard(dialogue.ask("hello", letters_only(model), Asking()))
    other, _ = heard(dialogue.answer_again(letters_only(model, 3), Asking()))
    assert [message.text for message in dialogue.messages] == ["Be kind.", "hello", other]


def test_rewinding_leaves_the_rows_of_what_is_left(model: LoadedModel, dialogue: Dialogue) -> None:
    params = letters_only(model)
    _, first = heard(dialogue.ask("one", params, Asking()))
    heard(dialogue.ask("two", params, Asking()))
    heard(dialogue.ask("three", params, Asking()))
    assert dialogue.rewind(2) == 2
    assert dialogue.num_tokens == first.prompt_tokens + first.completion_tokens
    _, usage = heard(dialogue.ask("four", params, Asking()))
    assert usage.cached_tokens >= first.prompt_tokens + first.completion_tokens
    assert [message.text for message in dialogue.messages[1::2]] == ["one", "four"]


def test_a_dropped_message_that_is_said_again_is_still_in_the_cache(model: LoadedModel, dialogue: Dialogue) -> None:
    params = letters_only(model)
    answer, first = heard(dialogue.ask("hello", params, Asking()))
    dialogue.rewind(1)
    again, usage = heard(dialogue.ask("hello", params, Asking()))
    assert (again, usage.read_tokens, usage.prompt_tokens) == (answer, 1, first.prompt_tokens)


def test_rewinding_further_than_the_beginning_drops_all(model: LoadedModel, dialogue: Dialogue) -> None:
    heard(dialogue.ask("hello", letters_only(model), Asking()))
    assert dialogue.rewind(9) == 1
    assert dialogue.messages == (Message("system", "Be kind."),)
    assert dialogue.num_tokens == 0
    with pytest.raises(UsageError):
        dialogue.rewind(0)


def test_the_answer_is_that_of_a_fresh_reading(model: LoadedModel, dialogue: Dialogue) -> None:
    params = letters_only(model)
    heard(dialogue.ask("hello", params, Asking()))
    ours, _ = heard(dialogue.ask("and then?", params, Asking()))
    fresh, _ = heard(model.generate(dialogue.messages[:-1], params, Asking(chat=PLAIN)))
    assert ours == fresh


def test_reasoning_that_the_template_drops_is_where_reading_begins(model: LoadedModel) -> None:
    with Dialogue(model) as dialogue:
        _, first = heard(dialogue.ask("hello", letters_only(model), Asking()))
        answer = dialogue.exchanges[0].answer
        assert answer is not None
        assert answer.reasoning
        _, second = heard(dialogue.ask("and then?", letters_only(model), Asking()))
    assert second.cached_tokens == first.prompt_tokens


def test_reading_that_is_stopped_keeps_finished_chunks_and_the_question(model: LoadedModel, dialogue: Dialogue) -> None:
    flag = CancelFlag()
    asking = Asking(cancel=flag, on_progress=lambda done, _total: flag.cancel() if done >= CHUNK else None)
    with pytest.raises(CancelledError):
        list(dialogue.ask("word " * 50, letters_only(model), asking))
    assert dialogue.is_unanswered
    assert dialogue.cached_tokens == CHUNK
    assert dialogue.num_tokens == num_tokens_of(model, dialogue)
    _, usage = heard(dialogue.answer_again(letters_only(model), Asking()))
    assert usage.read_tokens == usage.prompt_tokens, "each once, those before the stop included"
    assert not dialogue.is_unanswered


def test_what_follows_an_unanswered_question_is_added_to_it(model: LoadedModel, dialogue: Dialogue) -> None:
    flag = CancelFlag()
    flag.cancel()
    with pytest.raises(CancelledError):
        list(dialogue.ask("first", letters_only(model), Asking(cancel=flag)))
    heard(dialogue.ask("second", letters_only(model), Asking()))
    assert [exchange.question for exchange in dialogue.exchanges] == ["first\n\nsecond"]


def test_files_stay_where_they_lie_in_a_question(model: LoadedModel, dialogue: Dialogue) -> None:
    flag = CancelFlag()
    flag.cancel()
    file = FileSpan("a", 0, 2, 3)
    with pytest.raises(CancelledError):
        list(dialogue.ask("a:A", letters_only(model), Asking(cancel=flag), [file]))
    heard(dialogue.ask("a:B", letters_only(model), Asking(), [file]))
    (exchange,) = dialogue.exchanges
    assert exchange.question == "a:A\n\na:B"
    assert exchange.files == (file, FileSpan("a", 5, 7, 8))
    heard(dialogue.answer_again(letters_only(model), Asking()))
    assert dialogue.exchanges[0].files == exchange.files


def test_selections_are_told_for_every_token_of_every_answer(model: LoadedModel, dialogue: Dialogue) -> None:
    told: list[tuple[int, int]] = []
    asking = Asking(on_selection=lambda layer, positions_K: told.append((layer, int(positions_K.max()))))
    for _ in range(2):
        heard(dialogue.ask("hello", letters_only(model, 3), asking))
    heard(dialogue.answer_again(letters_only(model, 3), asking))
    assert [layer for layer, _ in told] == [0, 1, 3] * 9


def test_what_the_last_row_selected_is_told_again_after_a_stop_behind_it(
    model: LoadedModel, dialogue: Dialogue
) -> None:
    flag = CancelFlag()
    asking = Asking(cancel=flag, on_progress=lambda done, total: flag.cancel() if done == total else None)
    assert heard(dialogue.ask("hello", letters_only(model, 1), asking))[0] == ""
    assert dialogue.is_unanswered
    told: list[int] = []
    again = Asking(on_selection=lambda layer, _positions_K: told.append(layer))
    _, usage = heard(dialogue.answer_again(letters_only(model, 1), again))
    assert told == [0, 1, 3]
    assert usage.completion_tokens == 1


def test_the_prompt_is_held_when_the_first_selection_is_told(model: LoadedModel, dialogue: Dialogue) -> None:
    held: list[int] = []
    asking = Asking(on_selection=lambda _layer, _positions_K: held.append(len(dialogue.token_ids)))
    _, usage = heard(dialogue.ask("hello", letters_only(model, 3), asking))
    assert held == [usage.prompt_tokens + token for token in range(3) for _ in range(3)]


def test_other_exchanges_are_spelled_as_their_prompt_would_be(model: LoadedModel, dialogue: Dialogue) -> None:
    heard(dialogue.ask("hello", letters_only(model), Asking()))
    spelled = dialogue.spell([Exchange("naïve")])
    prompt = model.encode((Message("system", "Be kind."), Message("user", "naïve")), PLAIN)
    assert spelled == b"".join(map(dialogue.token_bytes, prompt.token_ids))
    assert "naïve".encode() in spelled
    assert len(dialogue.exchanges) == 1


def test_what_was_said_before_a_stop_stays(model: LoadedModel, dialogue: Dialogue) -> None:
    flag = CancelFlag()
    said = ""
    for event in dialogue.ask("hello", letters_only(model, 100), Asking(cancel=flag)):
        if isinstance(event, TextDelta):
            said += event.text
            flag.cancel()
    answer = dialogue.exchanges[0].answer
    assert answer is not None
    assert said
    assert answer.text == said


def test_an_iterator_that_is_closed_leaves_what_it_told(model: LoadedModel, dialogue: Dialogue) -> None:
    events = dialogue.ask("hello", letters_only(model, 100), Asking())
    first = next(events)
    events.close()
    assert isinstance(first, TextDelta)
    answer = dialogue.exchanges[0].answer
    assert answer is not None
    assert answer.text == first.text
    heard(dialogue.ask("again", letters_only(model), Asking()))


def test_a_message_that_leaves_no_room_is_refused_and_the_conversation_kept(
    model: LoadedModel, dialogue: Dialogue
) -> None:
    heard(dialogue.ask("hello", letters_only(model), Asking()))
    before, cached = dialogue.exchanges, dialogue.cached_tokens
    with pytest.raises(ContextLengthError, match="512") as error:
        dialogue.ask("word " * 300, letters_only(model), Asking())
    assert "--context" in error.value.mend
    assert dialogue.exchanges == before
    assert dialogue.cached_tokens == cached
    heard(dialogue.ask("go on", letters_only(model), Asking()))


def test_an_answer_ends_where_the_context_does(model: LoadedModel, dialogue: Dialogue) -> None:
    _, usage = heard(dialogue.ask("word " * 110, letters_only(model, 1000), Asking()))
    assert usage.prompt_tokens + usage.completion_tokens == dialogue.max_context == dialogue.num_tokens


def test_without_a_question_there_is_nothing_to_answer_again(dialogue: Dialogue) -> None:
    with pytest.raises(UsageError, match="no question"):
        dialogue.answer_again(SamplingParams(), Asking())


def test_an_option_that_the_template_does_not_read_is_refused_at_the_beginning(model: LoadedModel) -> None:
    with pytest.raises(UsageError, match="'volume'"):
        Dialogue(model, options=ChatOptions(template={"volume": 11}))


def test_reasoning_without_text_is_an_answer_too(model: LoadedModel) -> None:
    with Dialogue(model) as dialogue:
        events = list(dialogue.ask("hello", letters_only(model), Asking()))
        assert any(isinstance(event, ReasoningDelta) for event in events)
        assert not dialogue.is_unanswered


@pytest.mark.parametrize(
    ("left", "right", "common"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2], 2), ([1, 2], [1, 3], 1), ([2], [1], 0)],
)
def test_the_common_prefix_ends_at_the_first_difference(left: list[int], right: list[int], common: int) -> None:
    assert common_prefix(left, right) == common == common_prefix(right, left)


def test_a_word_is_spelled_as_the_model_spelled_it(model: LoadedModel) -> None:
    tokenizer = model.opened.conversation.tokenizer
    user, other = tokenizer.id_of("<|user|>"), tokenizer.id_of("<|assistant|>")
    usual = tokenizer.encode("self")
    letter_by_letter = [tokenizer.id_of(letter) for letter in "self"]
    assert usual != letter_by_letter
    known = [user, *letter_by_letter]
    assert adopt_spelling([user, *usual, other, 7], known, tokenizer) == (user, *letter_by_letter, other, 7)
    assert adopt_spelling([other, *usual], known, tokenizer) == (other, *usual), "after a difference nothing is taken"
    assert adopt_spelling([user, *tokenizer.encode("sell")], known, tokenizer) == (user, *tokenizer.encode("sell"))
    assert adopt_spelling(usual, (), tokenizer) == tuple(usual)


def test_a_checkpoint_without_a_template_cannot_chat(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURE.parent / "tiny-glm", tmp_path / "model"))
    (folder / "chat_template.jinja").unlink()
    with longlens.load(str(folder), device="cpu", context=128) as model, pytest.raises(TemplateError):
        Dialogue(model)
